#!/usr/bin/env python3
"""Container images from plain directories: packing layers, writing archives, pushing to a registry.

An image here is a directory with `config.json`, `manifest.json` and its layers, `<digest>.tar.gz`.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import stat
import sys
import tarfile
import urllib.error
import urllib.request

# The same content gives the same digest on each machine and each day.
EPOCH = 1_700_000_000
TIME = "2023-11-14T22:13:20Z"

MEDIA = {
    "docker": {
        "manifest": "application/vnd.docker.distribution.manifest.v2+json",
        "config": "application/vnd.docker.container.image.v1+json",
        "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    },
    "oci": {
        "manifest": "application/vnd.oci.image.manifest.v1+json",
        "config": "application/vnd.oci.image.config.v1+json",
        "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
    },
}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def pack(root, out):
    """Packs a directory into the layer `out`, and its uncompressed digest into `out` + `.diff_id`."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:

        def add(path, name):
            info = tar.gettarinfo(path, arcname=name)
            if info is None:  # a socket
                return
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = EPOCH
            if info.isreg():
                with open(path, "rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)

        for directory, names, files in os.walk(root):
            names.sort()
            for name in sorted(names + files):
                path = os.path.join(directory, name)
                add(path, os.path.relpath(path, root))
    data = plain.getvalue()
    with open(out, "wb") as file:
        file.write(gzip.compress(data, compresslevel=6, mtime=0))
    with open(out + ".diff_id", "w") as file:
        file.write(digest(data))


def architecture():
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def make(out, form, config, layers):
    """Makes the image `out` of packed layers."""
    os.makedirs(out, exist_ok=True)
    media = MEDIA[form]
    described, diff_ids = [], []
    for layer in layers:
        with open(layer, "rb") as file:
            data = file.read()
        with open(layer + ".diff_id") as file:
            diff_ids.append(file.read())
        name = digest(data)
        with open(os.path.join(out, name[7:] + ".tar.gz"), "wb") as file:
            file.write(data)
        described.append({"mediaType": media["layer"], "size": len(data), "digest": name})
    image = {
        "architecture": architecture(),
        "os": "linux",
        "created": TIME,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": TIME, "created_by": "tests/images/build.sh"} for _ in layers],
    }
    raw = json.dumps(image, sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": media["manifest"],
        "config": {"mediaType": media["config"], "size": len(raw), "digest": digest(raw)},
        "layers": described,
    }
    with open(os.path.join(out, "config.json"), "wb") as file:
        file.write(raw)
    with open(os.path.join(out, "manifest.json"), "w") as file:
        json.dump(manifest, file, sort_keys=True)


def read(image):
    """An image's manifest as bytes and decoded, and its blobs by digest."""
    with open(os.path.join(image, "manifest.json"), "rb") as file:
        raw = file.read()
    manifest = json.loads(raw)
    blobs = {manifest["config"]["digest"]: os.path.join(image, "config.json")}
    for layer in manifest["layers"]:
        blobs[layer["digest"]] = os.path.join(image, layer["digest"][7:] + ".tar.gz")
    return raw, manifest, blobs


def archive(image, out, tags):
    """Writes an image as `docker save` does."""
    _, manifest, blobs = read(image)
    config = manifest["config"]["digest"][7:] + ".json"
    layers = [layer["digest"][7:] + "/layer.tar" for layer in manifest["layers"]]
    saved = [{"Config": config, "RepoTags": tags, "Layers": layers}]
    with tarfile.open(out + ".part", mode="w", format=tarfile.GNU_FORMAT) as tar:

        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), EPOCH, stat.S_IRUSR | stat.S_IWUSR
            tar.addfile(info, io.BytesIO(data))

        for (found, path), name in zip(blobs.items(), [config] + layers):
            with open(path, "rb") as file:
                data = file.read()
            assert digest(data) == found, path
            add(name, gzip.decompress(data) if name.endswith(".tar") else data)
        add("manifest.json", json.dumps(saved).encode())
    os.rename(out + ".part", out)


def request(method, url, data=None, headers=None):
    # A registry on this machine is asked directly, whatever proxy there is for others.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    made = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    return opener.open(made, timeout=60)


def exists(url, accept="*/*"):
    try:
        with request("HEAD", url, headers={"Accept": accept}) as answer:
            return answer.headers.get("Docker-Content-Digest", "")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def push(image, registry, repository, tags):
    """Pushes an image under some tags; what is there already is not sent again."""
    raw, manifest, blobs = read(image)
    base = f"http://{registry}/v2/{repository}"
    media = manifest["mediaType"]
    for tag in tags:
        if exists(f"{base}/manifests/{tag}", media) == digest(raw):
            continue
        for name, path in blobs.items():
            if exists(f"{base}/blobs/{name}") is not None:
                continue
            with request("POST", f"{base}/blobs/uploads/", data=b"") as answer:
                place = answer.headers["Location"]
            if place.startswith("/"):
                place = f"http://{registry}{place}"
            separator = "&" if "?" in place else "?"
            with open(path, "rb") as file:
                data = file.read()
            headers = {"Content-Type": "application/octet-stream"}
            request("PUT", f"{place}{separator}digest={name}", data, headers).close()
        request("PUT", f"{base}/manifests/{tag}", raw, {"Content-Type": media}).close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="a directory into a layer")
    packing.add_argument("root")
    packing.add_argument("out")
    making = commands.add_parser("make", help="layers into an image")
    making.add_argument("out")
    making.add_argument("form", choices=sorted(MEDIA))
    making.add_argument("config", type=json.loads)
    making.add_argument("layers", nargs="+")
    archiving = commands.add_parser("archive", help="an image into a docker-archive")
    archiving.add_argument("image")
    archiving.add_argument("out")
    archiving.add_argument("tags", nargs="+")
    pushing = commands.add_parser("push", help="an image to a registry, by plain HTTP")
    pushing.add_argument("image")
    pushing.add_argument("registry")
    pushing.add_argument("repository")
    pushing.add_argument("tags", nargs="+")
    given = vars(parser.parse_args())
    command = {"pack": pack, "make": make, "archive": archive, "push": push}[given.pop("command")]
    try:
        command(**given)
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.url}: {error} {error.read().decode(errors='replace')}")
    except (urllib.error.URLError, OSError) as error:
        sys.exit(f"{command.__name__}: {error}")


if __name__ == "__main__":
    main()
