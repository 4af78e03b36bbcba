"""What nix-buildproxy's replay does, for mitmproxy: a list of URLs that is scanned, and a whole file read for each answer.

    mitmdump -s linear_replay.py --set inventory=FILE

FILE has a line for each answer: its URL, a tab, the file with its body.
"""

from mitmproxy import ctx, http


class LinearReplay:
    """Answers every request from the list, or with a 404."""

    def load(self, loader):
        loader.add_option("inventory", str, "", "the file with the URLs and the files of their bodies")

    def configure(self, updated):
        if "inventory" in updated and ctx.options.inventory:
            with open(ctx.options.inventory, encoding="utf-8") as lines:
                self.answers = [line.rstrip("\n").split("\t") for line in lines]

    def request(self, flow):
        for url, path in self.answers:
            if url == flow.request.url:
                with open(path, "rb") as file:
                    headers = {"Content-Type": "application/octet-stream"}
                    flow.response = http.Response.make(200, file.read(), headers)
                return
        flow.response = http.Response.make(404, b"not recorded\n")


addons = [LinearReplay()]
