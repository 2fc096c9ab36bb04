package clean

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPluginRemains(t *testing.T) {
	own, other := strings.Repeat("0a", 32), strings.Repeat("0b", 32)
	mount := func(id string) string {
		return "599 590 0:39 /run /run rw - tmpfs tmpfs rw\n" +
			"600 590 254:1 /var/lib/docker/plugins/" + id + "/propagated-mount /var/lib/socketplane rw,relatime shared:7 - ext4 /dev/vda rw\n"
	}
	for _, tt := range []struct {
		name, mounts     string
		has, stays, goes []string
		removed          bool
	}{
		{name: "nothing is left", mounts: mount(own), has: []string{own}, stays: []string{own}},
		{name: "its own", mounts: mount(own), has: []string{own, "." + own}, stays: []string{own}, goes: []string{"." + own}, removed: true},
		{name: "another plugin's", mounts: mount(own), has: []string{other, "." + other}, stays: []string{other, "." + other}},
		{name: "no plugin", mounts: "600 590 254:1 / / rw - ext4 /dev/vda rw\n", has: []string{"." + own}, stays: []string{"." + own}},
	} {
		for _, dir := range taskDirs() {
			t.Run(tt.name+" in "+filepath.Dir(filepath.Dir(dir)), func(t *testing.T) {
				run, mounts := t.TempDir(), filepath.Join(t.TempDir(), "mountinfo")
				if err := os.WriteFile(mounts, []byte(tt.mounts), 0o600); err != nil {
					t.Fatal(err)
				}
				for _, task := range tt.has {
					if err := os.MkdirAll(filepath.Join(run, dir, task, "rootfs"), 0o700); err != nil {
						t.Fatal(err)
					}
				}
				removed, err := PluginRemains(mounts, run)
				if err != nil || removed != tt.removed {
					t.Errorf("removed %v, %v; want %v", removed, err, tt.removed)
				}
				for _, task := range tt.stays {
					if _, err := os.Stat(filepath.Join(run, dir, task, "rootfs")); err != nil {
						t.Error(err)
					}
				}
				for _, task := range tt.goes {
					if _, err := os.Stat(filepath.Join(run, dir, task)); err == nil {
						t.Errorf("%s is still there", task)
					}
				}
			})
		}
	}
}
