#!/usr/bin/env bash
# Headers that the C++ library is built with, into a folder, without installing anything: ONNX
# Runtime's (Debian has them from "trixie" on; the library itself is the Python wheel's),
# nlohmann-json's, and for the TensorRT backend CUDA's runtime (NVIDIA's wheels, with libcudart) and
# TensorRT 10.14's public headers (Apache-2.0; a package that compiles plugins carries them, NVIDIA's
# own wheels have none). For Debian and its like; elsewhere install them your way (see engines/cpp).
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
release=trixie
mkdir -p "$folder"/apt/{lists/partial,cache/archives/partial,sources}
# The machine's own sources, of another release; none of its state is touched.
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
  [ -s "$file" ] || continue
  sed -E "s/\b(bookworm|bullseye|trixie|forky)(-[a-z]+)?\b/$release\2/g" "$file" \
    > "$folder/apt/sources/$(basename "$file")"
done
options=(
  -o "Dir::State::lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt/cache"
  -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$folder/apt/sources"
  -o "APT::Sandbox::User=" -qq
)
apt-get "${options[@]}" update
cd "$folder"
apt-get "${options[@]}" download libonnxruntime-dev nlohmann-json3-dev
for package in ./*.deb; do dpkg -x "$package" root; done
rm -rf apt ./*.deb
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps \
  --only-binary :all: --dest wheels kernel-lens==2.0.1 nvidia-cuda-crt==13.0.88 \
  nvidia-cuda-runtime==13.0.96
# Foreign to both projects: nothing of it is installed or run, and it must be this very file.
echo "07cc714e8b5e7f34b672f7c7fad93febe7c747be5837ba276b1527370134ffe0  wheels/kernel_lens-2.0.1-py3-none-any.whl" \
  | sha256sum --check --quiet
for wheel in wheels/*.whl; do "${PYTHON:-python3}" -m zipfile -e "$wheel" wheels/unpacked; done
mkdir -p cuda/lib tensorrt
cp -r wheels/unpacked/nvidia/cu13/include cuda/
cp wheels/unpacked/nvidia/cu13/lib/libcudart.so.13 cuda/lib/
cp wheels/unpacked/kernel_lens/include/tensorrt/*.h tensorrt/
rm -rf wheels
test -f root/usr/include/onnxruntime/onnxruntime_cxx_api.h
test -f root/usr/include/nlohmann/json.hpp
test -f cuda/include/cuda_runtime_api.h
test -f tensorrt/NvInferRuntime.h
