package ovs

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// startTimeout bounds the start of a daemon and every command: ample for a
// loaded machine, as a healthy one needs 0.1 s.
const startTimeout = 30 * time.Second

// schemaPath is where the packages of the distributions put the schema.
const schemaPath = "/usr/share/openvswitch/vswitch.ovsschema"

// Switch is a running Open vSwitch that belongs to one test. Its methods fail
// the test on errors, and belong to the test's goroutine.
type Switch struct {
	// RunDir holds all sockets, logs and the database; <RunDir>/<bridge>.mgmt
	// is a bridge's OpenFlow socket.
	RunDir string
	// DB is the database's remote, "unix:PATH", as ovs-vsctl --db takes it.
	DB string
	// NetNS is a path to the network namespace of ovs-vswitchd, good for
	// nsenter --net=… as long as the test runs.
	NetNS string

	t            testing.TB
	settings     settings
	db, vswitchd *testenv.Process
}

// Start starts ovsdb-server and ovs-vswitchd and stops them when the test ends.
// It needs root and the programs of Open vSwitch; without them it skips or
// fails the test as internal/testenv says. Like testenv.Need, it is not for
// parallel tests.
func Start(t testing.TB, options ...Option) *Switch {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ovsdb-server", "ovsdb-tool", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl", "ovs-appctl", "nsenter")

	// Not t.TempDir: its length depends on the test's name, and the path of a
	// unix socket has 107 bytes.
	dir, err := os.MkdirTemp("", "sp-ovs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	s := &Switch{RunDir: dir, DB: "unix:" + filepath.Join(dir, "db.sock"), t: t}
	for _, o := range options {
		o(&s.settings)
	}
	if s.NetNS = s.settings.netns; s.NetNS == "" {
		s.NetNS = newNetNS(t)
	}
	s.db = s.daemon("ovsdb-server", s.path("conf.db"), "--remote=punix:"+s.path("db.sock"))
	s.vswitchd = s.daemon("ovs-vswitchd", s.DB)
	t.Cleanup(s.cleanup)

	s.run("ovsdb-tool", "create", s.path("conf.db"), schemaPath)
	s.StartDB()
	s.run("ovs-vsctl", "--db="+s.DB, "--no-wait", "init")
	if len(s.settings.config) > 0 {
		s.run("ovs-vsctl", append([]string{"--db=" + s.DB, "--no-wait", "set", "Open_vSwitch", "."}, s.settings.config...)...)
	}
	s.StartVswitchd()
	return s
}

// AddBridge makes a bridge on the user-space datapath that forwards nothing
// until flows say so, and returns the path of its OpenFlow socket. More columns
// of the Bridge record may be given.
func (s *Switch) AddBridge(name string, columns ...string) string {
	s.t.Helper()
	args := []string{"add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev",
		"fail_mode=secure", "protocols=OpenFlow10,OpenFlow14"}
	s.Vsctl(append(args, columns...)...)
	return s.Mgmt(name)
}

// Mgmt is the path of a bridge's OpenFlow management socket.
func (s *Switch) Mgmt(bridge string) string { return s.path(bridge + ".mgmt") }

// StartDB starts ovsdb-server, again after StopDB, on the same database.
func (s *Switch) StartDB() {
	s.t.Helper()
	s.start(s.db, func() error {
		return s.try("ovs-vsctl", "--db="+s.DB, "--no-wait", "--timeout=1", "show")
	})
}

// StopDB kills ovsdb-server; the database's file stays.
func (s *Switch) StopDB() { s.db.Kill() }

// StartVswitchd starts ovs-vswitchd, again after StopVswitchd: without flows,
// and with the bridges that the database names.
func (s *Switch) StartVswitchd() {
	s.t.Helper()
	s.start(s.vswitchd, func() error {
		return s.try("ovs-appctl", "-t", s.path("ovs-vswitchd.ctl"), "version")
	})
	// ovs-vsctl waits for a change (a true one, hence the pid) until ovs-vswitchd
	// has applied it, and with it the configuration that was there before.
	s.Vsctl("set", "Open_vSwitch", ".", "external_ids:test-pid="+strconv.Itoa(s.vswitchd.Pid()))
}

// StopVswitchd kills ovs-vswitchd as a crash would; its sockets' files stay.
func (s *Switch) StopVswitchd() { s.vswitchd.Kill() }

// PauseVswitchd keeps ovs-vswitchd from running, though its sockets still
// accept, until ResumeVswitchd: a switch that hangs.
func (s *Switch) PauseVswitchd() { s.vswitchd.Signal(syscall.SIGSTOP) }

// ResumeVswitchd ends PauseVswitchd.
func (s *Switch) ResumeVswitchd() { s.vswitchd.Signal(syscall.SIGCONT) }

func (s *Switch) path(name string) string { return filepath.Join(s.RunDir, name) }

// daemon describes one of the two daemons, in the foreground of the switch's
// namespace. nsenter replaces itself, so that the process is the daemon.
func (s *Switch) daemon(name string, args ...string) *testenv.Process {
	argv := append([]string{"nsenter", "--net=" + s.NetNS, name}, args...)
	argv = append(argv, "--no-chdir", "--unixctl="+s.path(name+".ctl"),
		"--pidfile="+s.path(name+".pid"), "--log-file="+s.path(name+".log"), "-vconsole:err")
	p := testenv.NewProcess(s.path(name+".out"), argv...)
	p.Env = s.env()
	return p
}

// start starts a daemon and polls until it answers.
func (s *Switch) start(p *testenv.Process, answers func() error) {
	s.t.Helper()
	if err := p.Start(); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var last error
	err := testenv.Poll(ctx, 10*time.Millisecond, func() bool {
		last = answers()
		return last == nil || !p.Running()
	})
	if err != nil || last != nil {
		s.t.Fatalf("%s did not start: %v\n%s", p.Log(), last, p.Tail(20))
	}
}

func (s *Switch) cleanup() {
	s.vswitchd.Kill()
	s.db.Kill()
	if s.t.Failed() {
		s.t.Logf("the end of ovs-vswitchd's log:\n%s", testenv.TailFile(s.path("ovs-vswitchd.log"), 40))
	}
}
