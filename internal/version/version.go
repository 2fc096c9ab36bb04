// Package version owns what this binary is: its version, commit and toolchain.
//
// It imports the standard library only, and must not know who shows it.
package version

import (
	"runtime"
	"runtime/debug"
)

// version and commit are written by the linker in release builds and nowhere else:
//
//	-ldflags "-X github.com/socketplane/socketplane/internal/version.version=v0.1.0
//	          -X github.com/socketplane/socketplane/internal/version.commit=0123abc"
//
// Other builds find both in what the go command records.
var version, commit string

// unknown stands for what neither the linker nor the go command recorded.
const unknown = "unknown"

// Info says what a binary is; every field is set.
type Info struct {
	Version string `json:"version"`
	// Commit is the revision of the source, ending in "-dirty" if files were changed.
	Commit string `json:"commit"`
	Go     string `json:"go"`
	// Platform is the operating system and the architecture, as in linux/amd64.
	Platform string `json:"platform"`
}

// Get returns what this binary is.
func Get() Info {
	build, _ := debug.ReadBuildInfo()
	return fill(build, version, commit)
}

// fill prefers what the linker wrote. A nil build is one without recorded facts.
func fill(build *debug.BuildInfo, version, commit string) Info {
	info := Info{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if build == nil {
		build = &debug.BuildInfo{}
	}
	if info.Version == "" {
		info.Version = build.Main.Version
	}
	if info.Commit == "" {
		info.Commit = revision(build.Settings)
	}
	if info.Version == "" || info.Version == "(devel)" {
		info.Version = "devel"
	}
	if info.Commit == "" {
		info.Commit = unknown
	}
	return info
}

func revision(settings []debug.BuildSetting) string {
	rev, suffix := "", ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			suffix = "-dirty"
		}
	}
	if rev == "" {
		return ""
	}
	return rev + suffix
}
