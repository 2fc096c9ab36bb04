// registry, built by test/tools/install.sh.
module socketplane.invalid/tools/registry

go 1.26.7

tool github.com/google/go-containerregistry/cmd/registry

require github.com/google/go-containerregistry v0.21.5 // indirect
