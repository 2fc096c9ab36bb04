package cli_test

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/cli"
	"github.com/socketplane/socketplane/internal/doctor"
)

// TestDoctorExitCodes: scripts tell a warning from an error, and both from a host that is well.
func TestDoctorExitCodes(t *testing.T) {
	for name, tt := range map[string]struct {
		states []string
		want   int
	}{
		"well":    {[]string{adminapi.CheckOK, adminapi.CheckOK}, cli.ExitOK},
		"warning": {[]string{adminapi.CheckOK, adminapi.CheckWarn}, cli.ExitWarned},
		"unknown": {[]string{adminapi.CheckUnknown, adminapi.CheckOK}, cli.ExitWarned},
		"error":   {[]string{adminapi.CheckWarn, adminapi.CheckBad, adminapi.CheckUnknown}, cli.ExitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			c := busy()
			c.checks = nil
			for _, state := range tt.states {
				c.checks = append(c.checks, adminapi.Check{Name: "thing", State: state, Text: "is " + state})
			}
			for _, args := range [][]string{{"doctor"}, {"doctor", "--quiet"}, {"doctor", "--format", "json"}} {
				if got := operated(t, c, args...); got.code != tt.want || (got.stderr == "") != (tt.want == cli.ExitOK) {
					t.Errorf("%q: exit code %d, stderr %q", args, got.code, got.stderr)
				}
			}
		})
	}
}

// TestDoctorWithoutAgent: without an agent that answers the command looks itself, leaves no check out, and says so by its exit code.
func TestDoctorWithoutAgent(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "hangs.sock")) // takes connections by its queue, and answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for socket, words := range map[string]string{"none.sock": "does not run", "hangs.sock": "hangs"} {
		got := run(t, map[string]string{}, nil, "doctor", "--format", "json", "--admin-socket", filepath.Join(dir, socket), "--plugin-socket", filepath.Join(dir, "p.sock"),
			"--ovsdb", "unix:"+filepath.Join(dir, "db.sock"), "--docker-host", "none", "--state-dir", dir)
		if got.code != cli.ExitUnreachable || !strings.Contains(got.stderr, "the check 'agent' says why") {
			t.Errorf("%s: exit code %d, stderr %q", socket, got.code, got.stderr)
		}
		var answer struct{ Checks []adminapi.Check }
		if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil {
			t.Fatalf("%v: %s", err, got.stdout)
		}
		if len(answer.Checks) != len(doctor.Names()) {
			t.Errorf("%d checks, there are %d", len(answer.Checks), len(doctor.Names()))
		}
		if c := answer.Checks[0]; c.State != adminapi.CheckBad || !strings.Contains(c.Text, words) {
			t.Errorf("%s: %+v", socket, c)
		}
	}
}
