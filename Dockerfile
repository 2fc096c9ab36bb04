# The managed plugin's root file system, as an image: `docker export` of a container of it is what `docker plugin create` takes, beside
# config.json (docs/install.md). `make plugin` does the same without an image, from the packages of the machine.
#
# Base images are arguments, so that it builds from a mirror, pinned to a digest, or without any registry from imported ones:
#   docker build --build-arg GO_IMAGE=golang@sha256:… --build-arg BASE_IMAGE=debian@sha256:… .
# With PREBUILT=1 the binary is taken from bin/ (make build) and GO_IMAGE needs no Go. A base image that has Open vSwitch needs no network.
ARG GO_IMAGE=golang:1.26-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${GO_IMAGE} AS build
ARG VERSION=devel
ARG COMMIT=unknown
ARG PREBUILT=
WORKDIR /src
COPY . .
RUN mkdir /out; if [ -n "$PREBUILT" ]; then cp bin/socketplane /out/; else \
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w \
	-X github.com/socketplane/socketplane/internal/version.version=$VERSION \
	-X github.com/socketplane/socketplane/internal/version.commit=$COMMIT" -o /out/socketplane ./cmd/socketplane; fi

FROM ${BASE_IMAGE} AS rootfs
RUN command -v ovs-vswitchd || { apt-get update && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openvswitch-switch ca-certificates; }
COPY --from=build /out/socketplane /src/internal/ownovs/rootfs.sh /tmp/
RUN bash /tmp/rootfs.sh /rootfs /tmp/socketplane

FROM scratch
COPY --from=rootfs /rootfs /
ENTRYPOINT ["/bin/socketplane", "managed"]
