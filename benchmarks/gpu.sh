#!/usr/bin/env bash
# All that is to be measured on an accelerator, into one record, in under eight minutes:
#
#     benchmarks/gpu.sh RECORD.txt        # in an environment with the package and jax[cuda13] or jax[tpu]
#
# Each part has a limit of its own and is cut off there, which the record says; the next one runs all the same.
set -uo pipefail
cd "$(dirname "$0")/.."
record=$(realpath -m "${1:?usage: benchmarks/gpu.sh RECORD.txt}")
python=${PYTHON:-python}

part() { # SECONDS COMMAND...
    echo
    echo "\$ ${*:2}"
    local started=$SECONDS status=0
    timeout "$1" "${@:2}" 2>&1 || status=$?
    echo "[status $status after $((SECONDS - started)) s of at most $1]"
}

{
    date --utc +"%Y-%m-%d"
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv 2>/dev/null
    part 30 "$python" -c "import jax, ttt_jax; print(jax.__version__, ttt_jax.__version__, jax.devices())"
    part 40 "$python" -m ttt_jax risk --d 64 --n 32 --k 64 --tasks 1000000 --sampler law
    part 40 "$python" -m ttt_jax risk --d 64 --n 32 --k 64 --tasks 200000
    part 120 "$python" benchmarks/throughput.py
    part 90 "$python" benchmarks/block_size.py --d 64 --sizes 4096 16384 65536 262144
    part 60 "$python" benchmarks/sweep.py --cells 100 --theory 100
    part 30 "$python" benchmarks/memory.py
    part 60 "$python" -m benchmarks.pretraining_step --preset gpu --rows 512 --features 16
} | tee "$record"
