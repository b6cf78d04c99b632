#!/usr/bin/env bash
# Headers that the C++ library is built with, into a folder, without installing anything: ONNX
# Runtime's (Debian has them from "trixie" on; the library itself is the Python wheel's) and
# nlohmann-json's. For Debian and its like; elsewhere install them your way (see engines/cpp).
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
test -f root/usr/include/onnxruntime/onnxruntime_cxx_api.h
test -f root/usr/include/nlohmann/json.hpp
