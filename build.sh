#!/usr/bin/env bash
# Builds the container image kafka-message-scheduler:latest. Arguments go to docker build.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
image=kafka-message-scheduler:latest

command -v docker >/dev/null ||
    { echo "error: missing docker; see https://docs.docker.com/engine/install/" >&2; exit 1; }
docker info >/dev/null 2>&1 ||
    { echo "error: the Docker daemon does not answer; start it, or check that you may use it" >&2; exit 1; }

# For --version and /version: the build has no .git to ask.
commit=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || true)

# The Dockerfile's cache mounts need BuildKit.
DOCKER_BUILDKIT=1 docker build --tag "$image" --build-arg KMS_GIT_COMMIT="$commit" "$@" "$root"

cat <<NEXT

Built $image. Next:
  docker compose up -d                       a Kafka, the scheduler, AKHQ (:8080) and Prometheus (:9090)
  curl localhost:9401/health/ready           is it ready?
  docker run --rm $image --help
or run it against your own cluster:
  docker run --rm -p 9401:9401 -e KAFKA_BROKERS=your-broker:9092 -e SCHEDULE_TOPICS=schedules $image
NEXT
