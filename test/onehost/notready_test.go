package onehost

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// promptly is how soon each call of Docker is answered, whatever keeps the agent from starting.
const promptly = time.Second

// obstacle is something that keeps an agent from starting, and may pass.
type obstacle struct {
	name string
	// put makes it so before the agent's start; the agent has run before on the state directory if ran is set.
	put func(h *host) (mend func())
	ran bool
	// says is what refusals and the doctor say.
	says []string
	// flags are the agent's.
	flags []string
	// up says that the process does start, so that only what needs the missing part is refused.
	up bool
}

// TestNotReady: whatever keeps the agent from starting, and can pass, Docker and the command line are answered at once with the cause; when it has passed
// the agent works, without a restart. (weave#2222, weave#3009, moby#33871: Docker waits 15 s for each network of a plugin that does not
// answer, and containers with a restart policy stay down.)
func TestNotReady(t *testing.T) {
	shared := newHost(t)
	for i, o := range obstacles() {
		t.Run(o.name, func(t *testing.T) {
			h := *shared
			h.T, h.flags = t, o.flags
			t.Cleanup(func() { h.kill(); h.remove("state"); h.remove("agent.log") })
			if o.ran {
				h.start()
				h.stop()
				h.remove("agent.log")
			}
			mend := o.put(&h)
			h.begin()
			h.refuses(o)
			if !h.proc.Running() {
				t.Fatalf("the agent ended:\n%s", h.log())
			}
			mend()
			h.ready()
			ctx := h.Deadline(patience)
			n, err := h.Docker().Network(ctx, id("net", i), fmt.Sprintf("10.1.%d.0/24", i), "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := n.Join(ctx, id("ep", i), mac(i)); err != nil {
				t.Fatal(err)
			}
			info, err := h.admin().Info(ctx)
			if err != nil || info.Trouble != "" {
				t.Errorf("info: %v, trouble %q", err, info.Trouble)
			}
		})
	}
}

// refuses demands that everything is answered in time, with the cause, and that the log says it once.
func (h *host) refuses(o obstacle) {
	h.T.Helper()
	ctx := h.Deadline(patience)
	h.Eventually("the agent listens", func() error {
		for _, path := range []string{h.Path("plugin.sock"), h.Path("admin.sock")} {
			c, err := net.Dial("unix", path)
			if err != nil {
				return err
			}
			_ = c.Close()
		}
		return nil
	})
	d := h.Docker()
	for round := range 3 { // and it stays so
		for _, method := range []string{"Plugin.Activate", "NetworkDriver.GetCapabilities", "IpamDriver.GetCapabilities", "IpamDriver.GetDefaultAddressSpaces"} {
			h.inTime(method, func() error { _, err := d.Call(ctx, method, nil); return err }, nil)
		}
		h.inTime("CreateNetwork", func() error {
			_, err := d.Call(ctx, "NetworkDriver.CreateNetwork", object{"NetworkID": id("net", 1), "Options": object{"com.docker.network.generic": object{"network": "web"}},
				"IPv4Data": []object{{"AddressSpace": "socketplane", "Pool": "10.1.0.0/24", "Gateway": "10.1.0.1/24"}}})
			return err
		}, o.says)
		if !o.up && round == 0 {
			for _, method := range []string{"NetworkDriver.CreateEndpoint", "NetworkDriver.Join", "NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint",
				"IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress"} {
				h.inTime(method, func() error {
					_, err := d.Call(ctx, method, object{"NetworkID": id("net", 9), "EndpointID": id("ep", 9), "PoolID": "10.9.0.0/24", "Address": "10.9.0.9"})
					return err
				}, o.says)
			}
			h.inTime("RequestPool", func() error {
				_, err := d.Call(ctx, "IpamDriver.RequestPool", object{"AddressSpace": "socketplane", "Pool": "10.1.0.0/24"})
				return err
			}, o.says)
			h.inTime("network ls", func() error { _, err := h.admin().Networks(ctx); return err }, o.says)
		}
		h.inTime("readyz", func() error { return h.admin().Ready(ctx) }, o.says)
	}
	h.tells(ctx, o)
}

// inTime demands an answer within a second, an error that says all of it, or none if it is to say nothing.
func (h *host) inTime(what string, ask func() error, says []string) {
	h.T.Helper()
	began := time.Now()
	err := ask()
	if took := time.Since(began); took > promptly {
		h.T.Errorf("%s: answered after %v", what, took)
	}
	if (err == nil) != (says == nil) {
		h.T.Errorf("%s: %v", what, err)
		return
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			h.T.Errorf("%s does not say %q: %v", what, part, err)
		}
	}
}

// tells demands the cause from info, doctor, metrics' address and log.
func (h *host) tells(ctx context.Context, o obstacle) {
	h.T.Helper()
	info, err := h.admin().Info(ctx)
	if err != nil || info.Version == "" || info.Host.Name != "one" {
		h.T.Errorf("info: %+v %v", info, err)
	}
	checks, err := h.admin().Doctor(ctx)
	if err != nil {
		h.T.Errorf("doctor: %v", err)
	}
	said := info.Trouble + info.OVS.Error
	var doctor string
	for _, c := range checks {
		if c.State == adminapi.CheckBad {
			doctor += c.Text + " " + c.Cure + "\n"
		}
	}
	status, ready, err := h.Get("/readyz")
	if err != nil || status != 503 {
		h.T.Errorf("/readyz: %d %v", status, err)
	}
	if h.metric("socketplane_ready") != 0 {
		h.T.Error("socketplane_ready is not 0")
	}
	for _, part := range o.says {
		for what, text := range map[string]string{"info": said, "doctor": doctor, "/readyz": ready} {
			if !strings.Contains(text, part) {
				h.T.Errorf("%s does not say %q: %s", what, part, text)
			}
		}
	}
	if n := strings.Count(h.log(), "the agent can't start yet"); !o.up && n != 1 {
		h.T.Errorf("the log says %d times why the agent can't start", n)
	}
}

func obstacles() []obstacle {
	return []obstacle{
		{name: "no address", says: []string{"192.0.2.1", "--advertise"}, put: func(h *host) func() {
			h.IP("addr", "flush", "dev", "eth0")
			return func() { h.IP("addr", "add", underlay+"/24", "dev", "eth0") }
		}},
		{name: "full disk", says: []string{"no space left on device", "free space", "state"}, put: fullDisk},
		{name: "full disk of an agent that ran", ran: true, says: []string{"no space left on device", "free space"}, put: fullDiskWithOldState},
		{name: "read-only state directory", says: []string{"read-only file system", "read-write"}, put: func(h *host) func() {
			h.tmpfs("state", "ro")
			return func() { h.mount("none", h.Path("state"), unix.MS_REMOUNT, "") }
		}},
		{name: "a file in place of the state directory", says: []string{"not a directory", "move it away"}, put: func(h *host) func() {
			h.write("state", "x")
			return func() { h.remove("state") }
		}},
		{name: "damaged state", ran: true, says: []string{"local.db is damaged", "move it away"}, put: func(h *host) func() {
			return h.replaced("state/local.db", strings.Repeat("garbage ", 4096))
		}},
		{name: "unreadable host record", ran: true, says: []string{"host"}, put: func(h *host) func() {
			return h.record("local.db", store.LocalHostKey, "garbage")
		}},
		{name: "journal is a directory", says: []string{"addresses.journal", "is a directory"}, put: func(h *host) func() {
			h.mkdir("state/addresses.journal")
			return func() { h.remove("state/addresses.journal") }
		}},
		{name: "state of a newer version", ran: true, says: []string{"schema 99", "upgrade socketplane on this host"}, put: func(h *host) func() {
			return h.record("local.db", store.LocalSchemaKey, `{"schema":99}`)
		}},
		{name: "cluster of a newer version", ran: true, says: []string{"schema 99", "upgrade socketplane on this host"}, put: func(h *host) func() {
			return h.record("cluster.db", store.SchemaKey, `{"schema":99}`)
		}},
		{name: "journal of a newer version", ran: true, says: []string{`schema "9"`, "upgrade socketplane on this host"}, put: func(h *host) func() {
			return h.plantJournal(h.T)
		}},
		{name: "state directory of another agent", ran: true, says: []string{"local.db is in use by another process"}, put: func(h *host) func() {
			kv := openDB(h.T, h.Path("state/local.db"))
			return func() { _ = kv.Close() }
		}},
		{name: "no Open vSwitch", up: true, says: []string{"openvswitch-switch"}, put: func(h *host) func() {
			h.OVS.StopVswitchd()
			h.OVS.StopDB()
			return func() { h.OVS.StartDB(); h.OVS.StartVswitchd() }
		}},
		{name: "no TLS file", says: []string{"ca.pem", "no such file"}, put: func(h *host) func() {
			h.flags = []string{"--store", "consul", "--consul-addr", "unix://" + testenv.Consul(h.T).Socket}
			h.env = []string{"CONSUL_CACERT=" + h.Path("ca.pem")}
			return func() { h.write("ca.pem", authority(h.T)) }
		}},
		{name: "broken TLS file", says: []string{"ca.pem"}, put: func(h *host) func() {
			h.flags = []string{"--store", "consul", "--consul-addr", "unix://" + testenv.Consul(h.T).Socket}
			h.env = []string{"CONSUL_CACERT=" + h.Path("ca.pem")}
			h.write("ca.pem", "garbage")
			return func() { h.write("ca.pem", authority(h.T)) }
		}},
		{name: "no proc", says: []string{"/proc", "mount"}, put: func(h *host) func() {
			h.wrap = []string{"unshare", "-m", "sh", "-c", `umount -l /proc && exec "$0" "$@"`}
			return func() {
				h.Run("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", h.proc.Pid()), "mount", "-t", "proc", "proc", "/proc")
			}
		}},
	}
}

// authority is the certificate of some authority.
func authority(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (h *host) write(name, text string) {
	h.T.Helper()
	if err := os.WriteFile(h.Path(name), []byte(text), 0o600); err != nil {
		h.T.Fatal(err)
	}
}

func (h *host) mkdir(name string) {
	h.T.Helper()
	if err := os.MkdirAll(h.Path(name), 0o700); err != nil {
		h.T.Fatal(err)
	}
}

func (h *host) remove(name string) {
	h.T.Helper()
	if err := os.RemoveAll(h.Path(name)); err != nil {
		h.T.Fatal(err)
	}
}

// replaced replaces a file's content until the returned function is called.
func (h *host) replaced(name, text string) func() {
	h.T.Helper()
	was, err := os.ReadFile(h.Path(name))
	if err != nil {
		h.T.Fatal(err)
	}
	h.write(name, text)
	return func() { h.write(name, string(was)) }
}

// record replaces a record of a database until the returned function is called, which waits for its turn with the agent.
func (h *host) record(file, key, value string) func() {
	h.T.Helper()
	var was []byte
	write := func(value []byte) error {
		kv, err := bolt.Open(h.Path("state/"+file), bolt.Options{})
		if err != nil {
			return err
		}
		e, err := kv.Get(h.T.Context(), key)
		if err == nil {
			was = e.Value
			err = kv.Apply(h.T.Context(), store.Op{Kind: store.OpPut, Key: key, Value: value})
		}
		return errors.Join(err, kv.Close())
	}
	if err := write([]byte(value)); err != nil {
		h.T.Fatal(err)
	}
	before := was
	return func() {
		h.T.Helper()
		h.Eventually("the record is mended", func() error { return write(before) })
	}
}

func (h *host) mount(source, target string, flags uintptr, data string) {
	h.T.Helper()
	if err := unix.Mount(source, target, "tmpfs", flags, data); err != nil {
		h.T.Fatal(err)
	}
}

// tmpfs mounts one at a place in the host's directory.
func (h *host) tmpfs(name, options string) {
	h.T.Helper()
	h.mkdir(name)
	flags := uintptr(0)
	if options == "ro" {
		flags, options = unix.MS_RDONLY, ""
	}
	h.mount("none", h.Path(name), flags, options)
	h.T.Cleanup(func() { h.kill(); _ = unix.Unmount(h.Path(name), unix.MNT_DETACH) })
}

const diskSize = 256 << 10

// fullDisk is a state directory without room for anything.
func fullDisk(h *host) func() {
	h.tmpfs("state", fmt.Sprintf("size=%d", diskSize))
	h.write("state/ballast", strings.Repeat("x", diskSize))
	return func() { h.remove("state/ballast") }
}

// fullDiskWithOldState is the state that an agent left, with its journal of another boot, which has to be written.
func fullDiskWithOldState(h *host) func() {
	names := []string{"local.db", "cluster.db"}
	texts := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(h.Path(filepath.Join("state", name)))
		if err != nil {
			h.T.Fatal(err)
		}
		texts[name] = string(text)
	}
	h.tmpfs("state", fmt.Sprintf("size=%d", diskSize))
	for _, name := range names {
		h.write("state/"+name, texts[name])
	}
	f, err := os.Create(h.Path("state/ballast"))
	if err != nil {
		h.T.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, os.Getpagesize()))
	}
	if !errors.Is(err, unix.ENOSPC) {
		h.T.Fatal(err)
	}
	return func() { h.remove("state/ballast") }
}
