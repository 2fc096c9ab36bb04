package packages

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv"
)

// TestReleaseIsReproducible: a second build, from a copy of the sources in another directory, gives the same bytes. With SOCKETPLANE_TEST_LONG also
// without anything from the first one's cache, as the release's own workflow does.
func TestReleaseIsReproducible(t *testing.T) {
	testenv.Need(t, "nfpm", "cyclonedx-gomod", "git")
	first := releaseFrom(t, checkout, nil)
	copied := filepath.Join(t.TempDir(), "elsewhere")
	if out, err := exec.Command("git", "clone", "--quiet", "--shared", checkout, copied).CombinedOutput(); err != nil {
		testenv.Missing(t, fmt.Sprintf("no repository here: %v\n%s", err, out))
	}
	overlay(t, copied)
	var env []string
	if os.Getenv("SOCKETPLANE_TEST_LONG") != "" {
		env = append(env, "GOCACHE="+t.TempDir())
	}
	second := releaseFrom(t, copied, env)
	for _, name := range []string{"socketplane-linux-amd64", "socketplane-linux-arm64", "SHA256SUMS"} {
		a, b := read(t, filepath.Join(first, name)), read(t, filepath.Join(second, name))
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs between two builds", name)
			if name == "SHA256SUMS" {
				t.Logf("%s\n%s", a, b)
			}
		}
	}
	t.Run("checksums", func(t *testing.T) { checkSums(t, first) })
	t.Run("sbom", func(t *testing.T) { checkSBOM(t, first) })
	t.Run("arm64", func(t *testing.T) { runArm64(t, filepath.Join(first, "socketplane-linux-arm64")) })
}

// runArm64 runs the other architecture's binary on an emulated processor: what it says is what this one's says.
func runArm64(t *testing.T, binary string) {
	testenv.Need(t, "qemu-aarch64-static")
	run := func(args ...string) (string, error) {
		out, err := exec.Command("qemu-aarch64-static", append([]string{binary}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := run("version"); err != nil || !strings.Contains(out, "v1.2.3") || !strings.Contains(out, "arm64") {
		t.Errorf("version: %v: %s", err, out)
	}
	for _, verb := range []string{"agent", "doctor", "info", "network", "cluster"} {
		if out, err := run(verb, "--help"); err != nil || !strings.Contains(out, "socketplane "+verb) {
			t.Errorf("%s --help: %v: %s", verb, err, out)
		}
	}
	// It reaches for the agent, and says that there is none.
	if out, err := run("doctor", "--admin-socket", filepath.Join(t.TempDir(), "none.sock")); err == nil || !strings.Contains(out, "none.sock") {
		t.Errorf("doctor without an agent: %v: %s", err, out)
	}
}

// overlay brings the files of the checkout into the copy, also what is not committed.
func overlay(t *testing.T, copied string) {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = checkout
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(checkout, name))
		if name == "" || err != nil {
			continue // removed
		}
		to := filepath.Join(copied, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, read(t, filepath.Join(checkout, name)), info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

func releaseFrom(t *testing.T, dir string, env []string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "dist")
	cmd := exec.Command("packaging/build.sh", "release", out)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "VERSION=v1.2.3", "COMMIT=0123456", "ARCHES=amd64 arm64", "STAGE="+t.TempDir()+"/stage"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("release: %v\n%s", err, text)
	}
	return out
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// checkSums demands that every file of a release is listed with its true sum.
func checkSums(t *testing.T, dir string) {
	listed := map[string]string{}
	for line := range strings.Lines(string(read(t, filepath.Join(dir, "SHA256SUMS")))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		listed[name] = sum
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		sum := sha256.Sum256(read(t, filepath.Join(dir, e.Name())))
		if e.Name() != "SHA256SUMS" && listed[e.Name()] != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: listed as %q, is %x", e.Name(), listed[e.Name()], sum)
		}
	}
	for _, kind := range []string{".deb", ".rpm", "install.sh", "socketplane-linux-amd64", "socketplane-linux-arm64", "_arm64.deb", ".aarch64.rpm", ".cdx.json"} {
		found := false
		for name := range listed {
			found = found || strings.HasSuffix(name, kind)
		}
		if !found {
			t.Errorf("the release has no %s: %v", kind, listed)
		}
	}
}

// checkSBOM demands that the bill of materials names the modules in the binary, with their versions.
func checkSBOM(t *testing.T, dir string) {
	var bom struct {
		BOMFormat  string
		Metadata   struct{ Component struct{ Version string } }
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(read(t, filepath.Join(dir, "socketplane-linux-amd64.cdx.json")), &bom); err != nil {
		t.Fatal(err)
	}
	has := map[string]string{}
	for _, c := range bom.Components {
		has[c.Name] = c.Version
	}
	built, err := exec.Command("go", "version", "-m", filepath.Join(dir, "socketplane-linux-amd64")).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(built)) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "dep" && has[f[1]] != f[2] {
			t.Errorf("the bill has %s in version %q, the binary %s", f[1], has[f[1]], f[2])
		}
	}
	if bom.BOMFormat != "CycloneDX" || bom.Metadata.Component.Version != "v1.2.3" {
		t.Errorf("the bill is a %s of version %s", bom.BOMFormat, bom.Metadata.Component.Version)
	}
}
