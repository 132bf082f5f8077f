"""Squid's configuration: the order of its rules is what keeps an unlisted name from ever being looked up. Pure.

First the port, then the name (we are asked, no DNS), and only for a name that is allowed is it resolved and where it
leads checked. Nothing is cached, nothing but HTTP and tunnels is spoken, and it listens on loopback alone.
"""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from executor.egress_rules import PORTS

PRIVATE = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
    # Never ::ffff:0:0/96: Squid reads that as 0.0.0.0/0. It takes such addresses for the IPv4 ones they hold.
    "::/128", "::1/128", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "fc00::/7", "fe80::/10",
    "fec0::/10", "ff00::/8",
)  # fmt: skip
"""Where no name may lead (RFC 6890): this machine, its neighbours, metadata services, and what wraps such addresses."""


def squid_conf(*, port: int, socat: str, own_addresses: Iterable[str]) -> str:
    """Return the configuration; paths are relative to the directory Squid runs in."""
    denied = " ".join((*PRIVATE, *_not_covered(own_addresses)))
    ports = " ".join(map(str, PORTS))
    tunnels = " ".join(str(port) for port in PORTS if port != 80)  # plain HTTP needs none
    return f"""\
# Written by the worker at each start.
http_port 127.0.0.1:{port}
visible_hostname clustercode-egress
pid_filename none
coredump_dir none
netdb_filename none
cache_log /dev/null
hosts_file none
cache deny all
cache_mem 8 MB
memory_pools off
pinger_enable off
via off
forwarded_for delete
shutdown_lifetime 0 seconds
connect_timeout 30 seconds
request_timeout 60 seconds
client_lifetime 7 days
max_filedescriptors 8192
acl CONNECT method CONNECT
acl okports port {ports}
acl tunnels port {tunnels}
acl bad_dst dst {denied}
external_acl_type devbox ttl=1 negative_ttl=1 grace=0 cache=0 children-max=1 children-startup=1 concurrency=256 \
ipv4 %SRC %DST {socat} STDIO UNIX-CONNECT:run/acl.sock
acl box_may external devbox
acl refused http_status 403
logformat refused %>a %>rd %>rP %Ss
access_log stdio:/dev/stdout logformat=refused refused
http_access deny !okports
http_access deny CONNECT !tunnels
http_access deny !box_may
http_access deny bad_dst
http_access allow all
"""


def _not_covered(addresses: Iterable[str]) -> list[str]:
    """Return those that are in none of the networks above: Squid's lists take no address twice."""
    private = [ip_network(network) for network in PRIVATE]
    return sorted({address for address in addresses if not any(ip_address(address) in network for network in private)})
