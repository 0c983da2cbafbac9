"""A reconciler that asks editwar before it writes. It keeps data.color of each ConfigMap with the label example=desired at
"green". README.md in the parent directory explains the pattern.

It is a timer for a reason. Handlers of changes (kopf.on.create, kopf.on.update) keep their progress in annotations of the
object, so kopf writes the object even while they wait. A timer waits in memory; all that kopf writes is its finalizer.
"""

import logging
import os
from datetime import datetime, timezone
from pathlib import Path

import aiohttp
import kopf

EDITWAR = os.environ.get("EDITWAR_URL", "http://127.0.0.1:8080")
TOKEN_FILE = os.environ.get("EDITWAR_TOKEN_FILE")
TIMEOUT = aiohttp.ClientTimeout(total=1)
# The annotation that stops the reconcilers of an object. editwar's enforcer sets it, or a person.
PAUSED = "platform.kubevirt.io/reconcile-paused"

log = logging.getLogger("reconciler")
# The objects that are annotated, and "editwar" while it does not answer, so that each is logged once.
logged: set[str] = set()


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_) -> None:
    settings.scanning.disabled = True  # Do not watch for new kinds of resources.
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # Do not log each run of each timer.


@kopf.timer("v1", "configmaps", labels={"example": "desired"}, interval=1.0)
async def reconcile(body: kopf.Body, namespace: str, name: str, patch: kopf.Patch, **_) -> None:
    # RESOURCE.GROUP/NAMESPACE/NAME, as in deployments.apps/shop/web. The core group has no name.
    target = f"configmaps/{namespace}/{name}"
    if body.get("data", {}).get("color") == "green":
        logged.discard(target)
        return
    if body.metadata.annotations.get(PAUSED) == "true":
        log_once(target, f"not writing {target}: it has the annotation {PAUSED}")
        return  # The timer looks again after its interval.
    wait, reason = await must_wait(target)
    if wait > 0:
        # kopf logs the message, and calls this function again after the delay.
        raise kopf.TemporaryError(f"not writing {target}: {reason}", delay=wait)
    logged.discard(target)
    log.info(f"writing {target}")
    patch["data"] = {"color": "green"}  # kopf sends the patch after this function.


async def must_wait(target: str) -> tuple[float, str]:
    """Asks editwar whether the object may be written. Returns how many seconds to wait, and why. Zero or less: write now."""
    try:
        answer = await ask(target)
        allowed, retry_at = answer["allowed"], answer["retry_at"]
        wait = (datetime.fromisoformat(retry_at) - datetime.now(timezone.utc)).total_seconds() if retry_at else 0
    except Exception as error:  # Fail open: whatever is wrong with editwar, go on as if there were none.
        log_once("editwar", f"writing without asking, because editwar does not answer: {error!r}")
        return 0, ""
    logged.discard("editwar")
    if allowed:
        return 0, ""
    # A refusal is over at retry_at. editwar itself takes it back a little later, because events arrive in batches.
    return wait, answer["reason"]


async def ask(target: str) -> dict:
    """Returns the decision on an object."""
    headers = {}
    if TOKEN_FILE:  # Read for each request, because Kubernetes renews the token.
        headers["Authorization"] = f"Bearer {Path(TOKEN_FILE).read_text().strip()}"
    async with aiohttp.ClientSession(timeout=TIMEOUT, headers=headers, raise_for_status=True) as session:
        async with session.get(f"{EDITWAR}/api/v1/objects/{target}/decision") as response:
            return await response.json()


def log_once(about: str, message: str) -> None:
    if about not in logged:
        log.warning(message)
    logged.add(about)
