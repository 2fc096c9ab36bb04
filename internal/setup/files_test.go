package setup

import (
	"path"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/dataplane"
)

// TestDropIns: the files for NetworkManager and systemd-networkd name all links of ours, and nobody else's.
func TestDropIns(t *testing.T) {
	ours := []string{config.Bridge, "socketplane-vx", "socketplane-res", dataplane.LinkName("sph", "a"), dataplane.LinkName("spc", "a"), dataplane.LinkName("spx", "a")}
	others := []string{"eth0", "ens3", "docker0", "docker_gwbridge", "br-0123456789ab", "veth1234567", "sphere0", "spx0", "wlan0", "br-und"}
	for source, key := range map[string]string{"socketplane.networkmanager": "unmanaged-devices+=", "socketplane.networkd": "Name="} {
		text, err := files.ReadFile("files/" + source)
		if err != nil {
			t.Fatal(err)
		}
		_, line, ok := strings.Cut("\n"+string(text), "\n"+key)
		if !ok {
			t.Fatalf("%s has no %s", source, key)
		}
		line, _, _ = strings.Cut(line, "\n")
		patterns := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ';' })
		matches := func(name string) bool {
			for _, p := range patterns {
				if ok, err := path.Match(strings.TrimPrefix(p, "interface-name:"), name); err != nil || ok {
					return err == nil
				}
			}
			return false
		}
		for _, name := range ours {
			if !matches(name) {
				t.Errorf("%s leaves out %s", source, name)
			}
		}
		for _, name := range others {
			if matches(name) {
				t.Errorf("%s takes %s, which is not ours", source, name)
			}
		}
	}
	list, err := filesFor(BinaryPath, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dropIns() {
		found := false
		for _, f := range list {
			found = found || f.path == d.path && strings.HasPrefix(f.text, mark+"\n# ") && !f.keep
		}
		if !found {
			t.Errorf("an installation does not write %s, or an uninstallation would not find it", d.path)
		}
	}
}
