"""DevBox.setup."""

from conformance.scene import Scene, demand, same

_COMMIT = "git add -A && git -c user.name=check -c user.email=check@localhost commit --quiet --message change"


async def a_repository_is_cloned_and_updated(scene: Scene) -> None:
    """Branch and commit are checked out, CLAUDE.md tells of the ticket, a second run moves on and spares work."""
    box = (await scene.create())["id"]
    await scene.run(
        box,
        "git init --quiet --initial-branch=main /workspace/origin && cd /workspace/origin && echo one > README && "
        f"{_COMMIT} && git branch feature",
    )
    asked = {
        "devboxId": box,
        "repository": {"url": "/workspace/origin", "branch": "main"},
        "workdir": "/workspace/clone",
        "ticket": {"id": "T-1", "title": "A ticket to find"},
    }
    answer = await scene.ask("DevBox.setup", asked, timeout_s=120)
    same((answer["workdir"], answer["branch"]), ("/workspace/clone", "main"), "workdir and branch")
    head = await scene.run(box, "git -C /workspace/clone rev-parse HEAD")
    same(answer["commit"], head.strip(), "the commit")
    demand("A ticket to find" in await scene.run(box, ["cat", answer["claudeMd"]]), "CLAUDE.md lacks the ticket")
    await scene.run(box, f"cd /workspace/origin && echo two >> README && {_COMMIT}")
    again = await scene.ask("DevBox.setup", asked, timeout_s=120)
    demand(again["commit"] != answer["commit"], "a second setup stays at the old commit")
    await scene.run(box, "echo mine >> /workspace/clone/README")
    await scene.refused("FAILED_PRECONDITION", "DevBox.setup", asked)
    same(await scene.run(box, "tail -n 1 /workspace/clone/README"), "mine\n", "work that was not committed")


async def what_cannot_be_cloned_is_refused(scene: Scene) -> None:
    """No such repository is NOT_FOUND, and the workdir stays as it was."""
    box = (await scene.create())["id"]
    asked = {"devboxId": box, "repository": {"url": "/workspace/absent"}, "workdir": "/workspace/x"}
    await scene.refused("NOT_FOUND", "DevBox.setup", asked)
    same(await scene.run(box, "ls -A /workspace"), "", "what lies in the workspace")


CHECKS = (a_repository_is_cloned_and_updated, what_cannot_be_cloned_is_refused)
