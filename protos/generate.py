"""Generates the Python bindings and the public descriptor set from the .proto files (`make proto`).

The bindings differ from the .proto files in one point. `google.protobuf.Struct` is a map, and maps
keep no order: a function's JSON Schema would come back with its keys shuffled. On the wire a map
is a repeated pair, so the bindings replace `google.protobuf.Struct`, `Value` and `ListValue` by
twins that say `repeated` (package `assistants.json`): the same bytes, with their order. Other
languages compile the .proto files as they are; reflection and Envoy read `api.binpb`, which is
unchanged too.
"""

import re
import shutil
import sys
from importlib.metadata import files
from pathlib import Path

import grpc_tools
from google.protobuf import descriptor_pb2, struct_pb2
from grpc_tools import protoc

ROOT = Path(__file__).parent
BUILD = ROOT.parent / "build"
API = ROOT / "assistants" / "v1" / "api.binpb"
STRUCT = "google/protobuf/struct.proto"
STRUCT_TYPE = re.compile(r"\.google\.protobuf\.(Struct|Value|ListValue|NullValue)(\.|$)")
TWIN = "assistants/json/json.proto"
GOOGLE_API = [
    f"google/api/{name}.proto" for name in ("annotations", "http", "httpbody", "field_behavior")
]


def copy_google_api() -> Path:
    """Copies google/api out of the googleapis-common-protos wheel: a module for buf and protoc."""
    target = BUILD / "googleapis"
    for file in files("googleapis-common-protos") or []:
        if file.as_posix() in GOOGLE_API:
            (target / file.parent).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target / file)
    return target


def run_protoc(*arguments: str) -> None:
    """Runs protoc; its own messages go to stderr, and a failure ends the program."""
    if status := protoc.main(["protoc", *arguments]):
        sys.exit(status)


def ordered(public: descriptor_pb2.FileDescriptorSet) -> descriptor_pb2.FileDescriptorSet:
    """Returns the same files with the twins in place of Struct, Value and ListValue."""
    twin = descriptor_pb2.FileDescriptorProto()
    struct_pb2.DESCRIPTOR.CopyToProto(twin)
    twin.name, twin.package = TWIN, "assistants.json"
    twin.ClearField("options")
    struct = next(message for message in twin.message_type if message.name == "Struct")
    struct.nested_type[0].options.ClearField("map_entry")

    result = descriptor_pb2.FileDescriptorSet(file=[twin, *public.file])
    for file in result.file:
        if file.name == TWIN or file.package == "assistants.v1":
            file.dependency[:] = [TWIN if name == STRUCT else name for name in file.dependency]
            for message in file.message_type:
                _replace_types(message)
    return result


def _replace_types(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        if STRUCT_TYPE.match(field.type_name):
            field.type_name = field.type_name.replace(".google.protobuf.", ".assistants.json.")
    for nested in message.nested_type:
        _replace_types(nested)


def main() -> None:
    """Writes protos/assistants/**/*_pb2*.py(i) and protos/assistants/v1/api.binpb."""
    google_api = copy_google_api()
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    sources = sorted(
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("assistants/v1/*.proto")
    )
    run_protoc(
        f"-I{ROOT}",
        f"-I{google_api}",
        f"-I{well_known}",
        f"--descriptor_set_out={API}",
        "--include_imports",
        "--include_source_info",
        *sources,
        "google/api/httpbody.proto",
    )
    public = descriptor_pb2.FileDescriptorSet.FromString(API.read_bytes())
    server = BUILD / "bindings.binpb"
    server.write_bytes(ordered(public).SerializeToString())
    run_protoc(
        f"--descriptor_set_in={server}",
        f"--python_out={ROOT}",
        f"--pyi_out={ROOT}",
        f"--grpc_python_out={ROOT}",
        TWIN,
        *sources,
    )


if __name__ == "__main__":
    main()
