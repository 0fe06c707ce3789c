"""The command ``web``: a page that protects photos in the browser, served on this machine only."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path

import click

from faceprotect_sdk.cli.options import FILE
from faceprotect_sdk.errors import FaceprotectError, UsageError

#: Made by `npm run build` in web/, and part of the wheel.
PAGE = Path(__file__).parents[1] / "web" / "page"
PORT = 8765


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, metavar="N", help="0 takes a free one.")
@click.option("--bundle", type=FILE, metavar="DIR", help="What `pack` made.  [default: one of auto, packed at first use]")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def web(port: int, bundle: Path | None, no_browser: bool) -> None:
    """Serve a page that protects photos in the browser, to this machine only, until Ctrl-C.

    The photos stay in the browser. The page works without this command once it has been loaded.
    """
    from faceprotect_sdk.cli.signals import exit_code_of_stop
    from faceprotect_sdk.web.server import HOST, serve

    if not (PAGE / "index.html").is_file():
        raise FaceprotectError(f"the page has not been built ({PAGE} is not there). In a checkout: cd web && npm ci && npm run build")
    folder = _checked(bundle) if bundle else _packed()
    try:
        server = serve(PAGE, folder, port)
    except OSError as error:
        raise UsageError(f"port {port} cannot be used ({error.strerror}). Name another one, or --port 0 for a free one") from error
    address = f"http://{HOST}:{server.server_address[1]}/"
    click.echo(address)
    click.echo("Open this address in a browser on this machine; Ctrl-C ends.", err=True)
    if not no_browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()  # some browsers keep their caller waiting
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt as stopped:  # the ordinary end, so there is nothing to say about it
            raise SystemExit(exit_code_of_stop(stopped)) from None


def _checked(bundle: Path) -> Path:
    from faceprotect_sdk.methods.catalogue import FILE as RECIPE

    if not (bundle / RECIPE).is_file():
        raise UsageError(f"{bundle} is no bundle ({RECIPE} is not in it). Make one: faceprotect-sdk pack auto -o auto.fp")
    return bundle


def _packed() -> Path:
    from faceprotect_sdk.bundle.cached import cached_bundle

    return cached_bundle(report=lambda doing: click.echo(doing, err=True))
