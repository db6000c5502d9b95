#!/usr/bin/env bash
# Builds, tests, sanitizes and measures on a machine with a CUDA device, in at most 9 minutes. It needs no network.
#
#     benchmarks/gpu_check.sh [build|test|sanitize|bench|all] [RESULTS]
#
# It needs PyTorch 2.11 or newer, Triton 3.6 or newer, a CUDA toolkit, cmake, ninja, pybind11, scikit-build-core and
# pytest in the environment of `python3`. It writes gpu.jsonl and a log of each step to RESULTS (default
# benchmarks/results).
set -uo pipefail
cd "$(dirname "$0")/.."
step=${1:-all}
results=$(mkdir -p "${2:-benchmarks/results}" && cd "${2:-benchmarks/results}" && pwd)
site=${TMPDIR:-/tmp}/basinvol-gpu-check
deadline=$((SECONDS + 540))
failed=0

# run NAME SECONDS COMMAND...: runs one step and writes its log, within the limit of the step and that of the script.
run() {
  local name=$1 limit=$2 left=$((deadline - SECONDS))
  shift 2
  if ((left <= 5)); then
    echo "== $name: no time left"
    failed=1
    return
  fi
  local started=$SECONDS
  timeout $((limit < left ? limit : left)) "$@" >"$results/gpu_$name.log" 2>&1
  local code=$?
  echo "== $name: exit code $code, $((SECONDS - started)) s"
  tail -n "$([[ $code == 0 ]] && echo 12 || echo 40)" "$results/gpu_$name.log"
  ((code == 0)) || failed=1
}

# Installs into a separate folder, so that the environment is left as it was.
build() {
  run build 180 python3 -m pip install --quiet --no-build-isolation --no-deps --no-index --upgrade --target "$site" \
    --config-settings=cmake.define.BASINVOL_CUDA=ON .
}
check() { run test 100 python3 -m pytest -q -p no:cacheprovider tests/kernels -m gpu; }
triton() { run triton 120 python3 -m pytest -q -p no:cacheprovider tests/kernels -k "triton and not compile"; }
sanitize() {
  for tool in memcheck racecheck; do
    run "$tool" 60 compute-sanitizer --tool "$tool" --error-exitcode 1 python3 -m benchmarks.gpu_small
  done
}
bench() { run bench 200 python3 -m benchmarks.gpu --out "$results/gpu.jsonl"; }

export PYTHONPATH=$site:$PWD PYTHONUNBUFFERED=1
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || { echo "no CUDA device"; exit 2; }
case $step in
  build) build ;;
  test) check; triton ;;
  sanitize) sanitize ;;
  bench) bench ;;
  all)
    # The sanitizer runs last and takes the time that is left. The table is still printed at the end.
    build; check; triton; bench; sanitize
    tail -n 30 "$results/gpu_bench.log"
    ;;
  *) echo "unknown step $step: build, test, sanitize, bench or all"; exit 2 ;;
esac
exit $failed
