package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// daemon listens on a unix socket; it answers whoever connects, or, with "", nobody.
func daemon(t *testing.T, path, answer string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var open []net.Conn
		defer func() {
			for _, c := range open {
				_ = c.Close()
			}
		}()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open = append(open, conn)
			if answer != "" {
				_, _ = conn.Write([]byte(answer)) // the other end says if it did not get it
			}
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
}

// dead leaves a socket that nobody serves.
func dead(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// process is a file as the kernel has it of this process.
func process(t *testing.T, state string) Files {
	return host(t, map[string]string{fmt.Sprintf("/proc/%d/status", os.Getpid()): "Name:\tdockerd\nState:\t" + state, "/usr/sbin/ovsdb-server": "", "/usr/sbin/ovs-vswitchd": "", "/run/docker.pid": fmt.Sprint(os.Getpid())})
}

// beside is a host on which a process runs whose id is in a file beside its socket; an agent has none.
func beside(t *testing.T, socket, name, state string) Files {
	return host(t, map[string]string{"/proc/77/status": "Name:\t" + name + "\nState:\t" + state, "/proc/77/cmdline": "socketplane\x00agent\x00--mirror",
		filepath.Join(filepath.Dir(socket), name+".pid"): "77"})
}

func TestSockets(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	daemon(t, at("well"), "HTTP/1.1 200 OK\r\n\r\n")
	daemon(t, at("hangs"), "")
	dead(t, at("dead"))
	running, stopped := process(t, "S (sleeping)"), process(t, "T (stopped)")
	pid := fmt.Sprint(os.Getpid())
	unit := func(context.Context) string { return "its unit is failed (exit-code)" }
	sw := func(files Files, db, mgmt string) Check {
		return Switch{Files: files, DB: at(db), Mgmt: at(mgmt), Restart: "RESTART"}.Daemons()
	}
	docker := func(files Files, path string) Check { return Docker{Files: files, Host: "unix://" + at(path)}.Check() }
	engine := func(files Files, ready error, info func(context.Context) error) Check {
		return Docker{Files: files, Host: "unix://" + at("well"), Ready: func() error { return ready }, Info: info,
			Networks: func(context.Context) (int, error) { return 3, nil }}.Check()
	}
	far := Switch{Files: running, DB: at("well"), Mgmt: at("well"), Plane: func(context.Context) Plane {
		return Plane{Unreached: []string{"broadcasts of network web do not reach 50 of its hosts"}}
	}}.Daemons()
	fine := func(context.Context) error { return nil }
	hung := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	containerd := host(t, map[string]string{"/proc/78/status": "Name:\tcontainerd\nState:\tT (stopped)"})
	for name, tt := range map[string]struct {
		check Check
		state string
		words []string
	}{
		"switch":                           {sw(running, "well", "well"), "ok", nil},
		"switch, floods":                   {far, "warning", []string{"do not reach 50 of its hosts", "--tunnel kernel"}},
		"no Open vSwitch":                  {sw(host(t, nil), "none", "well"), "error", []string{"in none of the usual directories", "apt-get install openvswitch-switch"}},
		"no Docker, seen from a container": {docker(host(t, map[string]string{"/.dockerenv": ""}), "none"), "error", []string{"does not run", "systemctl start docker"}},
		"no Docker, seen from the plugin":  {docker(Files{Root: host(t, nil).Root, Contained: true}, "none"), "error", []string{"does not run", "systemctl start docker"}},
		"no Docker at all":                 {docker(host(t, nil), "none"), "error", []string{"in none of the usual directories", "docs.docker.com"}},
		"no database":                      {sw(running, "none", "well"), "error", []string{"ovsdb-server does not run", "no socket", "RESTART"}},
		"dead database":                    {sw(running, "dead", "well"), "error", []string{"ovsdb-server does not run", "nobody serves"}},
		"hanging database":                 {sw(running, "hangs", "well"), "error", []string{"ovsdb-server (process " + pid + ") hangs", "RESTART"}},
		"stopped database":                 {sw(stopped, "hangs", "well"), "error", []string{"ovsdb-server (process " + pid + ") is stopped by a signal", "kill -CONT " + pid}},
		"dead switch":                      {sw(running, "well", "dead"), "error", []string{"ovs-vswitchd does not run"}},
		"hanging switch":                   {sw(running, "well", "hangs"), "error", []string{"ovs-vswitchd (process " + pid + ") hangs"}},
		"stopped switch":                   {sw(stopped, "well", "hangs"), "error", []string{"ovs-vswitchd (process " + pid + ") is stopped", "kill -CONT " + pid}},
		"Docker":                           {docker(running, "well"), "ok", nil},
		"Docker, asked by the agent":       {engine(running, nil, fine), "ok", []string{"has 3 networks"}},
		"Docker, not asked yet":            {engine(running, ErrNotTried, fine), "unknown", []string{"answers at", "has not connected to it yet", "see the store"}},
		"Docker, agent can't":              {engine(running, errAway, fine), "error", []string{"consul is away"}},
		"containerd hangs":                 {engine(running, nil, hung), "error", []string{"containerd, or another program", "systemctl restart containerd docker"}},
		"containerd is stopped":            {engine(containerd, nil, hung), "error", []string{"containerd (process 78) is stopped by a signal", "kill -CONT 78"}},
		"Docker refuses":                   {engine(running, nil, func(context.Context) error { return errAway }), "error", []string{"consul is away", "docker info"}},
		"no Docker":                        {docker(host(t, map[string]string{"/usr/bin/dockerd": ""}), "none"), "error", []string{"Docker does not run", "systemctl start docker"}},
		"Docker's socket":                  {docker(running, "none"), "error", []string{"though dockerd runs (process " + pid + ")", "--docker-host"}},
		"dead Docker":                      {docker(host(t, nil), "dead"), "error", []string{"nobody serves"}},
		"hanging Docker":                   {docker(running, "hangs"), "error", []string{"hangs", "systemctl restart docker"}},
		"stopped Docker":                   {docker(stopped, "hangs"), "error", []string{"stopped by a signal", "kill -CONT " + pid}},
		"Docker by TCP":                    {Docker{Host: "tcp://127.0.0.1:1"}.Check(), "error", []string{"refuses connections", "--docker-host"}},
		"agent":                            {Agent(running, at("well"), unit), "ok", nil},
		"no agent":                         {Agent(running, at("none"), unit), "error", []string{"does not run", "its unit is failed", "systemctl start"}},
		"dead agent":                       {Agent(running, at("dead"), unit), "error", []string{"nobody serves"}},
		"hanging agent":                    {Agent(running, at("hangs"), unit), "error", []string{"hangs", "systemctl restart"}},
		"stopped agent":                    {Agent(stopped, at("hangs"), unit), "error", []string{"stopped by a signal", "kill -CONT"}},
		"database's socket gone": {sw(beside(t, at("none"), "ovsdb-server", "S (sleeping)"), "none", "well"), "error",
			[]string{"ovsdb-server runs (process 77), but there is no socket", "RESTART"}},
		"switch's socket gone, stopped": {sw(beside(t, at("none"), "ovs-vswitchd", "T (stopped)"), "well", "none"), "error",
			[]string{"ovs-vswitchd (process 77) is stopped by a signal", "kill -CONT 77"}},
		"agent's socket gone": {Agent(beside(t, at("none"), "socketplane", "S (sleeping)"), at("none"), unit), "error",
			[]string{"the agent runs (process 77), but there is no socket", "--admin-socket", "systemctl restart socketplane.socket"}},
		"agent's socket dead": {Agent(beside(t, at("none"), "socketplane", "S (sleeping)"), at("dead"), unit), "error",
			[]string{"the agent runs (process 77), but nobody serves", "--admin-socket"}},
		"sockets":           {Sockets([]Socket{{at("well"), 0o777}}, "RESTART"), "ok", nil},
		"socket gone":       {Sockets([]Socket{{at("none"), 0o600}}, "RESTART"), "error", []string{"none is gone", "RESTART"}},
		"socket for all":    {Sockets([]Socket{{at("well"), 0o600}}, "RESTART"), "error", []string{"too many may use it", "chmod 600"}},
		"state directory":   {StateDir(Files{}, dir, open(t, "kept"), "RESTART"), "ok", []string{"can be written"}},
		"no state":          {StateDir(Files{}, at("none"), nil, "RESTART"), "error", []string{"is gone", "mkdir"}},
		"state is no place": {StateDir(Files{}, "/proc/self", nil, "RESTART"), "error", []string{"can't be written"}},
		"state was removed": {StateDir(Files{}, dir, open(t, "removed"), "RESTART"), "error",
			[]string{"local.db is gone", "cp /proc/" + strconv.Itoa(os.Getpid()) + "/fd/", "&& RESTART"}},
		"state was replaced": {StateDir(Files{}, dir, open(t, "replaced"), "RESTART"), "error",
			[]string{"local.db is another file", "cp /proc/" + strconv.Itoa(os.Getpid()) + "/fd/", "&& RESTART keeps the agent's"}},
		"state's directory was removed": {StateDir(Files{}, at("none"), open(t, "removed with all"), "RESTART"), "error", []string{"local.db is gone", "mkdir -p -m 700"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			got := Run(t.Context(), []Check{tt.check})[0]
			if got.State != tt.state || (got.State == adminapi.CheckOK) != (got.Cure == "") {
				t.Errorf("%+v", got)
			}
			for _, word := range tt.words {
				if !strings.Contains(got.Text+" | "+got.Cure, word) {
					t.Errorf("it does not say %q: %s | %s", word, got.Text, got.Cure)
				}
			}
		})
	}
}

// TestRestartSwitch: the unit is the one that the host has.
func TestRestartSwitch(t *testing.T) {
	const usr, etc = "/usr/lib/systemd/system/", "/etc/systemd/system/"
	for name, c := range map[string]struct {
		units []string
		want  string
	}{
		"Debian":         {[]string{usr + "openvswitch-switch.service", usr + "ovs-vswitchd.service"}, "systemctl restart openvswitch-switch"},
		"an older one":   {[]string{"/lib/systemd/system/openvswitch-switch.service"}, "systemctl restart openvswitch-switch"},
		"RPM":            {[]string{usr + "openvswitch.service", usr + "ovs-vswitchd.service", usr + "ovsdb-server.service"}, "systemctl restart openvswitch"},
		"by hand":        {[]string{etc + "openvswitch.service"}, "systemctl restart openvswitch"},
		"daemons alone":  {[]string{usr + "ovs-vswitchd.service", usr + "ovsdb-server.service"}, "systemctl restart ovs-vswitchd"},
		"without a unit": {nil, "systemctl restart openvswitch-switch"},
	} {
		files := map[string]string{}
		for _, u := range c.units {
			files[u] = "[Unit]"
		}
		if got := RestartSwitch(host(t, files)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// open opens a file as an agent does; then it is kept, removed, removed with its directory, or replaced.
func open(t *testing.T, then string) []OpenFile {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	mkdir(t, dir)
	path := filepath.Join(dir, "local.db")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	opened := Opened(path)
	switch then {
	case "removed":
		err = os.Remove(path)
	case "removed with all":
		err = os.RemoveAll(dir)
	case "replaced":
		put(t, path+".new", "another")
		err = os.Rename(path+".new", path)
	}
	if err != nil || len(opened) != 1 {
		t.Fatal(err, opened)
	}
	return opened
}

// TestLocal: without an agent all checks are there, and those that need it say that they could not look.
func TestLocal(t *testing.T) {
	dir := t.TempDir()
	l := Local{Files: host(t, nil), Links: links(), AdminSocket: dir + "/agent.sock", PluginSocket: dir + "/plugin.sock", OVSDB: "unix:" + dir + "/db.sock",
		Bridge: "socketplane0", DockerHost: "none", StateDir: dir, Unit: func(context.Context) string { return "" }}
	states := map[string]string{}
	var names []string
	for _, c := range Run(t.Context(), l.Checks()) {
		states[c.Name] = c.State
		names = append(names, strings.TrimSuffix(c.Name, " other hosts"))
	}
	if !slices.Equal(names, Names()) {
		t.Errorf("%q", names)
	}
	for name, want := range map[string]string{"agent": "error", "Open vSwitch": "error", "store": "unknown", "way to other hosts": "unknown", "sockets": "error",
		"state directory": "ok", "Docker": "ok"} {
		if states[name] != want {
			t.Errorf("%s is %s, want %s", name, states[name], want)
		}
	}
}

func TestMountOf(t *testing.T) {
	f := host(t, map[string]string{"/proc/self/mountinfo": `1 0 0:1 / / rw - ext4 /dev/a rw
2 1 0:1 /x /var/lib rw - ext4 /dev/b rw
3 2 0:1 /y /var/lib/socketplane ro - ext4 /dev/b rw
4 2 0:1 /y /var/lib/socket rw - ext4 /dev/b rw`})
	for path, want := range map[string]string{"/var/lib/socketplane": "/var/lib/socketplane", "/var/lib/socketplane/x": "/var/lib/socketplane", "/var/lib/else": "/var/lib",
		"/etc": "/", "/": "/"} {
		if got := f.mountOf(path); got != want {
			t.Errorf("%s is on %s, want %s", path, got, want)
		}
	}
}

func TestForbidden(t *testing.T) {
	if f := forbidden("/run/db.sock", 1000, "nothing works"); f.State != adminapi.CheckUnknown || !strings.Contains(f.Cure, "as root") {
		t.Errorf("a user: %+v", f)
	}
	if f := forbidden("/run/db.sock", 0, "nothing works"); f.State != adminapi.CheckBad || !strings.Contains(f.Saw, "SELinux") || strings.Contains(f.Cure, "as root") {
		t.Errorf("root: %+v", f)
	}
}
