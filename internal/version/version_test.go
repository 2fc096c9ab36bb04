package version

import (
	"runtime/debug"
	"testing"
)

func TestFill(t *testing.T) {
	recorded := &debug.BuildInfo{
		Main:     debug.Module{Version: "v0.2.0"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}},
	}
	tests := []struct {
		name                string
		build               *debug.BuildInfo
		version, commit     string
		wantVersion, wantID string
	}{
		{"linker wins", recorded, "v1.0.0", "def", "v1.0.0", "def"},
		{"recorded by go", recorded, "", "", "v0.2.0", "abc-dirty"},
		{"go build of a package", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "", "", "devel", "unknown"},
		{"nothing", nil, "", "", "devel", "unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := fill(tt.build, tt.version, tt.commit)
			if got.Version != tt.wantVersion || got.Commit != tt.wantID {
				t.Errorf("got %s %s, want %s %s", got.Version, got.Commit, tt.wantVersion, tt.wantID)
			}
			if got.Go == "" || got.Platform == "" {
				t.Errorf("empty field in %+v", got)
			}
		})
	}
}
