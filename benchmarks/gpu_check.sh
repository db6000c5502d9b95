#!/usr/bin/env bash
# What to run on a machine with a CUDA device, in three parts of at most ten minutes each, in any order. No network.
#
#     benchmarks/gpu_check.sh contact|sanitize|tune [RESULTS]
#
# contact   builds; every kernel against float64; the GPU tests; the cases that have goals; networks beyond perceptrons
# sanitize  memcheck and racecheck on small networks; the bias of deep products; a profile of the heaviest kernels
# tune      a sweep of tiles; all cases and precisions, and PyTorch's ways to find radii
#
# It needs PyTorch 2.11 or newer, Triton 3.6 or newer, cmake, ninja, pybind11, scikit-build-core and pytest in the
# environment of `python3`, and nvcc for the CUDA engine. Each part writes gpu_PART.jsonl, one line for every
# measurement or failure as it is made, and gpu_PART.log to RESULTS (default benchmarks/results), and fails if any of its
# steps does. BASINVOL_GPU_REHEARSAL=1 runs the same steps at small sizes in Triton's interpreter, without a device.
set -uo pipefail
cd "$(dirname "$0")/.."
part=${1:-}
site=${TMPDIR:-/tmp}/basinvol-gpu-check
for folder in /usr/local/cuda/bin /opt/cuda/bin; do [[ -x $folder/nvcc ]] && PATH=$PATH:$folder; done

# A step of each part: installs into a separate folder, so that the environment is left as it was, and not again while
# the sources are the same.
install() {
  local sources
  sources=$(find csrc python basin_triton CMakeLists.txt pyproject.toml -type f ! -name '*.pyc' ! -name '*.so' -print0 |
    sort -z | xargs -0 cat | sha1sum)
  [[ -f $site/built && $(<"$site/built") == "$sources $1" ]] && return 0
  rm -rf "$site"
  python3 -m pip install --quiet --no-build-isolation --no-deps --no-index --upgrade --target "$site" \
    --config-settings=cmake.define.BASINVOL_CUDA="$1" . && echo "$sources $1" >"$site/built"
}

case $part in
  contact | sanitize | tune) ;;
  install)
    install "$2"
    exit
    ;;
  *)
    echo "usage: benchmarks/gpu_check.sh contact|sanitize|tune [RESULTS]" >&2
    exit 64
    ;;
esac
results=$(mkdir -p "${2:-benchmarks/results}" && cd "${2:-benchmarks/results}" && pwd)
lines=$results/gpu_$part.jsonl
log=$results/gpu_$part.log
deadline=$((SECONDS + 570))
failed=0
most_log=2000000 # bytes of a step's output that are kept

export PYTHONUNBUFFERED=1
if [[ ${BASINVOL_GPU_REHEARSAL:-} == 1 ]]; then export TRITON_INTERPRET=1; else nvidia-smi -L || true; fi

# step NAME SECONDS COMMAND...: one step within its own limit and that of the part; its end is a line of its own.
step() {
  local name=$1 limit=$2 left=$((deadline - SECONDS))
  shift 2
  if ((left <= 15)); then
    echo "{\"step\": \"$name\", \"name\": \"end\", \"ok\": false, \"reason\": \"not begun: no time left\"}" >>"$lines"
    echo "== $name: no time left"
    failed=1
    return 1
  fi
  local started=$SECONDS output
  output=$(mktemp)
  timeout -s INT -k 10 $((limit < left ? limit : left)) "$@" >"$output" 2>&1
  local code=$?
  { echo "== $name"; tail -c $most_log "$output"; } >>"$log"
  echo "== $name: exit code $code, $((SECONDS - started)) s"
  tail -n "$([[ $code == 0 ]] && echo 3 || echo 25)" "$output" | cut -c1-400
  rm -f "$output"
  echo "{\"step\": \"$name\", \"name\": \"end\", \"ok\": $([[ $code == 0 ]] && echo true || echo false)," \
    "\"exit_code\": $code, \"wall_s\": $((SECONDS - started))}" >>"$lines"
  ((code == 0)) || failed=1
  return $code
}

build() {
  local script=benchmarks/gpu_check.sh
  if [[ ${BASINVOL_GPU_REHEARSAL:-} == 1 ]]; then
    step "build without CUDA" 240 $script install OFF
    return
  fi
  step "build with CUDA" 240 $script install ON && return
  # The Triton engine needs no nvcc; that the other one is missing stays a failure.
  step "build without CUDA" 120 $script install OFF
}

run() { step "$1" "$2" python3 -m benchmarks.gpu "$1" --out "$lines" "${@:3}"; }

contact() {
  run smoke 90
  step tests 200 python3 -m benchmarks.gpu.tests --out "$lines" --log "$log" --seconds 150
  run goals 240
  run modules 150
}

sanitize() {
  local tool engine graphs
  if ! command -v compute-sanitizer >/dev/null; then
    echo '{"step": "sanitizer", "name": "end", "ok": false, "reason": "compute-sanitizer is not on the path"}' >>"$lines"
    failed=1
  fi
  # Kernels are compiled before the sanitizer watches; torch's cache would hide what is read beyond an allocation.
  run small 90
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1
  local runs=() run
  for tool in memcheck racecheck; do
    command -v compute-sanitizer >/dev/null || break
    for engine in "cuda 1" "cuda 0" "triton 1"; do
      read -r engine graphs <<<"$engine"
      # Side by side: most of the time is the sanitizer's own, on the host. Only our kernels are watched, Triton's and
      # those of the extension: watching torch's takes minutes.
      BASINVOL_CUDA_GRAPHS=$graphs step "$tool of $engine, graphs $graphs" 180 compute-sanitizer --tool $tool \
        --kernel-name 'regex=^_[a-z_]+_kernel$' --kernel-name kernel_substring=basinvol \
        --report-api-errors no --error-exitcode 1 python3 -m benchmarks.gpu small --engine "$engine" --out "$lines" &
      runs+=($!)
    done
  done
  for run in "${runs[@]}"; do wait "$run" || failed=1; done
  unset PYTORCH_NO_CUDA_MEMORY_CACHING
  run bias 90
  run profile 90
}

tune() {
  run tune 260 --seconds 220
  run table 300 --seconds 200
}

build
export PYTHONPATH=$site:$PWD
$part
echo "== $part: $([[ $failed == 0 ]] && echo "every step passed" || echo "a step failed"); results in $lines"
exit $failed
