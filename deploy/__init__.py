"""What makes a worker a service: files for systemd and launchd, which ``clustercode worker --install`` takes from here.

``/usr/local/bin/clustercode`` stands for wherever the program is.
"""
