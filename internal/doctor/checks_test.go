package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/store"
)

// host is a directory with files as a kernel shows them.
func host(t *testing.T, files map[string]string) Files {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Files{Root: root}
}

// links are the host's interfaces: eth0 with 192.0.2.1, and what is given.
func links(more ...Link) Links {
	all := append([]Link{{Name: "eth0", MTU: 1500, Up: true, Carrier: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}}, more...)
	return func() ([]Link, error) { return all, nil }
}

func at(dev string) func() Underlay {
	return func() Underlay { return Underlay{Addr: netip.MustParseAddr("192.0.2.1"), Dev: dev, MTU: 1500} }
}

func peers(all ...Peer) func(context.Context) ([]Peer, error) {
	return func(context.Context) ([]Peer, error) { return all, nil }
}

var errAway = errors.New("consul is away")

func noPeers(context.Context) ([]Peer, error) { return nil, errAway }

// compared is a comparison of the networks that succeeded some time ago, and how the last attempt went.
func compared(ago time.Duration, err error) func() (time.Time, error) {
	return func() (time.Time, error) { return time.Now().Add(-ago), err }
}

// failsOnce is a comparison whose last attempt failed, and the next one did not.
func failsOnce() func() (time.Time, error) {
	attempts := 0
	return func() (time.Time, error) {
		if attempts++; attempts == 1 {
			return time.Now(), errAway
		}
		return time.Now(), nil
	}
}

// TestChecks: each check is in the right state, and says the words.
func TestChecks(t *testing.T) {
	h2 := Peer{ID: "id2", Name: "h2", VTEP: netip.MustParseAddr("192.0.2.2"), Alive: true, Version: "v1"}
	by := func(dev string) func(context.Context, netip.Addr, netip.Addr) (string, bool, error) {
		return func(_ context.Context, from, _ netip.Addr) (string, bool, error) {
			if from != netip.MustParseAddr("192.0.2.1") {
				return "by-another-source", true, nil
			}
			return dev, true, nil
		}
	}
	notLoopback := func(context.Context, string) (bool, error) { return false, nil }
	isLoopback := func(context.Context, string) (bool, error) { return true, nil }
	forward := func(n string) Files { return host(t, map[string]string{"/proc/sys/net/ipv4/ip_forward": n}) }
	filter := func(all, dev string) Files {
		return host(t, map[string]string{"/proc/sys/net/ipv4/conf/all/rp_filter": all, "/proc/sys/net/ipv4/conf/eth0/rp_filter": dev})
	}
	track := func(count, most string) Files {
		return host(t, map[string]string{"/proc/sys/net/netfilter/nf_conntrack_count": count, "/proc/sys/net/netfilter/nf_conntrack_max": most})
	}
	limits := func(soft, instances, nr string) Files {
		return host(t, map[string]string{"/proc/self/limits": "Limit Soft Hard Units\nMax open files            " + soft + "   4096   files", "/proc/self/fd/0": "",
			"/proc/sys/fs/inotify/max_user_instances": instances, "/proc/sys/fs/file-nr": nr})
	}
	bridge := func(change func(*BridgeState)) Check {
		s := BridgeState{FailMode: "secure"}
		change(&s)
		return Bridge("socketplane0", func(context.Context) (BridgeState, error) { return s, nil })
	}
	offload := func(datapath, tunnel string, tso bool) Check {
		return Switch{Restart: "RESTART", Plane: func(context.Context) Plane { return Plane{Datapath: datapath, Tunnel: tunnel, TSO: tso} }}.Offload()
	}
	kept := func(alive bool, err error) StoreDeps {
		return StoreDeps{Kind: "consul", Address: "192.0.2.9:8500", Host: "h", Ask: asked, Members: func(context.Context) (store.Membership, error) {
			return store.Membership{Hosts: map[string]store.Host{"h": {}}, Alive: map[string]bool{"h": alive}}, err
		}}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections by its queue
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	hanging := kept(true, fmt.Errorf("get: %w", context.DeadlineExceeded))
	hanging.Address, hanging.Files = "http://"+listener.Addr().String(), host(t, map[string]string{"/proc/78/status": "Name:\tconsul\nState:\tS (sleeping)"})
	stopped, socket := hanging, hanging
	stopped.Files = host(t, map[string]string{"/proc/77/status": "Name:\tconsul\nState:\tT (stopped)"})
	socket.Address = "unix:///run/consul.sock"
	elsewhere := kept(true, nil)
	elsewhere.Members = func(context.Context) (store.Membership, error) { return store.Membership{}, nil }
	alone := kept(true, nil)
	alone.Alone = true
	cluster := func(change func(*adminapi.ClusterStatus)) Check {
		st := adminapi.ClusterStatus{ClusterSummary: adminapi.ClusterSummary{State: "member"}}
		change(&st)
		return Cluster(func(context.Context) (adminapi.ClusterStatus, error) { return st, nil })
	}
	gateway := func(mtu int, up bool) Links {
		return links(Link{Name: "docker_gwbridge", MTU: mtu, Up: up, Addrs: []netip.Prefix{netip.MustParsePrefix("172.18.0.1/16"), netip.MustParsePrefix("fe80::1/64")}})
	}
	bare := links(Link{Name: "docker_gwbridge", MTU: 1500, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("fe80::1/64")}})
	made := func(has bool, err error) func(context.Context) (GatewayNetwork, error) {
		return func(context.Context) (GatewayNetwork, error) { return GatewayNetwork{There: has}, err }
	}
	open := func(context.Context) (GatewayNetwork, error) { return GatewayNetwork{There: true, Open: true}, nil }
	forwards := func(bridge, nic string) Files {
		return host(t, map[string]string{"/proc/sys/net/ipv4/ip_forward": "1", "/proc/sys/net/ipv4/conf/docker_gwbridge/forwarding": bridge, "/proc/sys/net/ipv4/conf/eth0.7/forwarding": nic})
	}
	vlan := func() Underlay { return Underlay{Addr: netip.MustParseAddr("192.0.2.1"), Dev: "eth0.7"} }
	stations := func(macs ...string) func(context.Context, string, netip.Addr) ([]string, error) {
		return func(context.Context, string, netip.Addr) ([]string, error) { return macs, nil }
	}
	lan := links(Link{Name: "lan2", Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("10.32.0.9/24")}})
	web := func() []NetworkPools {
		return []NetworkPools{{Name: "web", Pools: []netip.Prefix{netip.MustParsePrefix("10.32.0.0/20")}}}
	}
	notOurs := func(string) bool { return false }
	yes, no := func() bool { return true }, func() bool { return false }
	kernel := func(modules string) Files {
		return host(t, map[string]string{"proc/sys/kernel/osrelease": "6.1.0", "lib/modules/6.1.0/modules.dep": modules})
	}
	out := func(dev string, mtu int) func(context.Context) (string, int, error) {
		return func(context.Context) (string, int, error) { return dev, mtu, nil }
	}
	clocks := func(err error, reached, synced bool, unsure error) Check {
		return Clocks(ClockDeps{Hosts: peers(h2), Ask: func(context.Context, netip.Addr) (time.Duration, error) { return 3 * time.Millisecond, err },
			Reached: func(context.Context, netip.Addr) bool { return reached }, Synced: func() (bool, error) { return synced, unsure }})
	}
	twin := func(namespace string) Files {
		f := host(t, map[string]string{"/proc/77/status": "Name:\tsocketplane\nState:\tS (sleeping)", "/proc/77/cmdline": "socketplane\x00agent", "/proc/77/ns/x": "", "/proc/self/ns/x": ""})
		for path, to := range map[string]string{"/proc/77/ns/net": namespace, "/proc/self/ns/net": "net:[7]"} {
			if err := os.Symlink(to, filepath.Join(f.Root, path)); err != nil {
				t.Fatal(err)
			}
		}
		return f
	}
	for name, tt := range map[string]struct {
		check Check
		state string
		words []string
	}{
		"kernel module":         {KernelModule(host(t, nil), yes), "ok", nil},
		"module not loaded":     {KernelModule(kernel("kernel/net/openvswitch/openvswitch.ko.xz: kernel/net/nsh/nsh.ko.xz"), no), "warning", []string{"user space", "modprobe"}},
		"module not built":      {KernelModule(kernel("kernel/drivers/net/vxlan.ko:"), no), "ok", []string{"not applicable", "6.1.0", "user space"}},
		"no modules":            {KernelModule(host(t, map[string]string{"proc/sys/kernel/osrelease": "6.1.0"}), no), "ok", []string{"not applicable", "user space"}},
		"kernel unknown":        {KernelModule(host(t, nil), no), "unknown", []string{"release"}},
		"agent":                 {AgentUp(twin("net:[1]"), "v1", time.Now()), "ok", []string{"v1"}},
		"two agents":            {AgentUp(twin("net:[7]"), "v1", time.Now()), "error", []string{"another agent", "process 77", "kill 77"}},
		"versions":              {Versions("v1", peers(h2)), "ok", nil},
		"versions differ":       {Versions("v2", peers(h2)), "warning", []string{"h2 has v1", "v2"}},
		"versions, no store":    {Versions("v1", noPeers), "unknown", []string{"consul is away"}},
		"names":                 {HostNames("h1", "id1", peers(h2)), "ok", nil},
		"one name":              {HostNames("h2", "id1", peers(h2)), "warning", []string{"2 hosts are named h2: id1, id2"}},
		"names, no store":       {HostNames("h1", "id1", noPeers), "unknown", []string{"consul is away"}},
		"forwarding":            {Forwarding(forward("1"), links(), nil), "ok", nil},
		"no forwarding":         {Forwarding(forward("0"), gateway(1500, true), nil), "error", []string{"ip_forward is 0", "sysctl -w"}},
		"no forwarding, unused": {Forwarding(forward("0"), links(), nil), "ok", []string{"not applicable"}},
		"forwarding unreadable": {Forwarding(host(t, nil), links(), nil), "unknown", []string{"ip_forward"}},
		"forwarding of links":   {Forwarding(forwards("1", "1"), gateway(1500, true), out("eth0.7", 1500)), "ok", []string{"docker_gwbridge and eth0.7"}},
		"forwarding of bridge":  {Forwarding(forwards("0", "1"), gateway(1500, true), nil), "error", []string{"docker_gwbridge is off", "sysctl -w net.ipv4.conf.docker_gwbridge.forwarding=1"}},
		"forwarding of NIC":     {Forwarding(forwards("1", "0"), gateway(1500, true), out("eth0.7", 1500)), "error", []string{"eth0.7 is off", "sysctl -w net/ipv4/conf/eth0.7/forwarding=1"}},
		"no forwarding of NIC":  {Forwarding(forwards("1", "0"), gateway(1500, true), out("eth9", 1500)), "unknown", []string{"eth9"}},
		"strict on a VLAN":      {ReversePath(host(t, map[string]string{"/proc/sys/net/ipv4/conf/all/rp_filter": "1", "/proc/sys/net/ipv4/conf/eth0.7/rp_filter": "1"}), vlan, peers(h2), by("eth1"), notLoopback), "error", []string{"sysctl -w net/ipv4/conf/eth0.7/rp_filter=2"}},
		"not strict":            {ReversePath(filter("0", "0"), at("eth0"), peers(h2), by("eth1"), notLoopback), "ok", nil},
		"strict":                {ReversePath(filter("1", "0"), at("eth0"), peers(h2), by("eth0"), notLoopback), "ok", []string{"strict"}},
		"strict, other way":     {ReversePath(filter("0", "1"), at("eth0"), peers(h2), by("eth1"), notLoopback), "error", []string{"h2", "leave by eth1", "rp_filter=2"}},
		"loose beats strict":    {ReversePath(filter("1", "2"), at("eth0"), peers(h2), by("eth1"), notLoopback), "ok", nil},
		"loose for all":         {ReversePath(filter("2", "1"), at("eth0"), peers(h2), by("eth1"), notLoopback), "ok", nil},
		"strict, no store":      {ReversePath(filter("1", "1"), at("eth0"), noPeers, by("eth0"), notLoopback), "unknown", []string{"consul is away"}},
		"filter on loopback":    {ReversePath(host(t, nil), at("dum0"), noPeers, by("eth0"), isLoopback), "ok", []string{"not applicable", "dum0"}},
		"conntrack":             {Conntrack(track("10", "1000")), "ok", []string{"10 of 1000"}},
		"conntrack nearly full": {Conntrack(track("900", "1000")), "warning", []string{"900 of 1000", "nf_conntrack_max=4000"}},
		"conntrack full":        {Conntrack(track("1000", "1000")), "error", []string{"1000 of 1000"}},
		"no conntrack":          {Conntrack(host(t, nil)), "ok", []string{"not applicable"}},
		"limits":                {Limits(limits("1024", "128", "1000 0 100000")), "ok", []string{"1 of 1024"}},
		"no limit":              {Limits(limits("unlimited", "128", "1000 0 100000")), "ok", nil},
		"few files":             {Limits(limits("40", "128", "1000 0 100000")), "error", []string{"1 files open", "may open 40", "--nofile=4096: "}},
		"system's files":        {Limits(limits("1024", "128", "95000 0 100000")), "warning", []string{"fs.file-max"}},
		"few instances":         {Limits(limits("1024", "16", "1000 0 100000")), "warning", []string{"inotify", "sysctl -w"}},
		"limits unreadable":     {Limits(host(t, nil)), "unknown", nil},
		"address":               {Address{Links: links(), Underlay: at("eth0"), Hosts: peers(h2)}.Check(), "ok", []string{"192.0.2.1 on eth0"}},
		"address, no store":     {Address{Links: links(), Underlay: at("eth0"), Hosts: noPeers}.Check(), "unknown", []string{"192.0.2.1 on eth0", "consul is away"}},
		"address, alone on its segment": {Address{Links: links(Link{Name: "eth1", MAC: "02:00:00:00:00:98"}), Underlay: at("eth0"), Hosts: peers(h2), Stations: stations("02:00:00:00:00:98")}.Check(), "ok",
			[]string{"nobody else on its segment"}},
		"address of another machine": {Address{Links: links(), Underlay: at("eth0"), Hosts: peers(h2), Stations: stations("02:00:00:00:00:98")}.Check(), "error",
			[]string{"another machine on the segment of eth0", "02:00:00:00:00:98", "has this host's tunnel address 192.0.2.1 too"}},
		"address on a link without ARP": {Address{Links: links(), Underlay: at("eth0"), Hosts: peers(h2), Stations: func(context.Context, string, netip.Addr) ([]string, error) { return nil, errAway }}.Check(), "ok", nil},
		"no address": {Address{Links: links(), Hosts: peers(), Underlay: func() Underlay { return Underlay{Err: errors.New("no default route")} }}.Check(), "error",
			[]string{"no default route", "--advertise"}},
		"address shared": {Address{Links: links(), Underlay: at("eth0"), Hosts: peers(Peer{ID: "id3", Name: "h3", VTEP: netip.MustParseAddr("192.0.2.1"), Alive: true})}.Check(), "error",
			[]string{"h3", "id3", "192.0.2.1 too"}},
		"address of a former record": {Address{Links: links(), Underlay: at("eth0"), Hosts: peers(Peer{ID: "id3", Name: "h1", VTEP: netip.MustParseAddr("192.0.2.1")})}.Check(), "warning",
			[]string{"id3", "192.0.2.1", "former record", "socketplane host rm id3"}},
		"address of a former record and of another": {Address{Links: links(), Underlay: at("eth0"), Hosts: peers(Peer{ID: "id3", Name: "h1", VTEP: netip.MustParseAddr("192.0.2.1")},
			Peer{ID: "id4", Name: "h4", VTEP: netip.MustParseAddr("192.0.2.1"), Alive: true})}.Check(), "error", []string{"id4"}},
		"address gone": {Address{Links: func() ([]Link, error) { return nil, nil }, Underlay: at("eth0"), Hosts: peers(), Restart: "RESTART"}.Check(), "error",
			[]string{"no link", "it was on eth0", "RESTART"}},
		"gateway":                   {Gateway(gateway(1500, true), out("eth0", 1500), made(true, nil)), "ok", []string{"eth0"}},
		"gateway too large":         {Gateway(gateway(9000, true), out("wan0", 1500), made(true, nil)), "error", []string{"9000", "wan0", "1500", "ip link set docker_gwbridge mtu 1500"}},
		"gateway down":              {Gateway(gateway(1500, false), out("eth0", 1500), made(true, nil)), "error", []string{"is down"}},
		"no gateway":                {Gateway(links(), out("eth0", 1500), made(false, nil)), "ok", []string{"not applicable"}},
		"gateway of a fast way out": {Gateway(gateway(9000, true), out("wan0", 9000), made(true, nil)), "ok", nil},
		"gateway without a way out": {Gateway(gateway(1500, true), out("", 0), made(true, nil)), "unknown", []string{"no default route"}},
		"no gateway, no Docker":     {Gateway(links(), out("eth0", 1500), nil), "ok", []string{"not applicable"}},
		"no gateway, silent Docker": {Gateway(links(), out("eth0", 1500), made(false, errAway)), "unknown", []string{"consul is away", "see Docker"}},
		"gateway was removed":       {Gateway(links(), out("eth0", 1500), made(true, nil)), "error", []string{"its link is gone", "systemctl restart docker"}},
		"gateway for all":           {Gateway(gateway(1500, true), out("eth0", 1500), open), "warning", []string{"enable_icc=false", "different networks on this host reach each other"}},
		"gateway, silent Docker":    {Gateway(gateway(1500, true), out("eth0", 1500), made(true, errAway)), "unknown", []string{"see Docker"}},
		"gateway without address":   {Gateway(bare, out("eth0", 1500), made(true, nil)), "error", []string{"has no address", "systemctl restart docker"}},
		"subnets":                   {Subnets(links(), web, notOurs), "ok", nil},
		"subnets overlap":           {Subnets(lan, web, notOurs), "warning", []string{"10.32.0.0/24 of lan2 overlaps 10.32.0.0/20 of network web"}},
		"our own link":              {Subnets(lan, web, func(l string) bool { return l == "lan2" }), "ok", nil},
		"bridge":                    {bridge(func(*BridgeState) {}), "ok", nil},
		"controller":                {bridge(func(s *BridgeState) { s.Controllers = 1 }), "error", []string{"controller", "del-controller"}},
		"fail mode":                 {bridge(func(s *BridgeState) { s.FailMode = "standalone" }), "error", []string{"standalone", "set-fail-mode"}},
		"foreign port":              {bridge(func(s *BridgeState) { s.Ports = []string{"x1"} }), "warning", []string{"x1", "del-port socketplane0 x1"}},
		"foreign flow":              {bridge(func(s *BridgeState) { s.Flows = []string{"table=0, priority=7, cookie=0x77 actions=drop"} }), "error", []string{"del-flows socketplane0 cookie=0x77/-1"}},
		"flows removed":             {bridge(func(s *BridgeState) { s.Missing = 5 }), "error", []string{"5 of SocketPlane's flows", "removed"}},
		"flows mended":              {bridge(func(s *BridgeState) { s.Mended, s.Last = 2, time.Now() }), "warning", []string{"2 times", "has mended"}},
		"flows mended once":         {bridge(func(s *BridgeState) { s.Mended, s.Last = 2, time.Now().Add(-time.Hour) }), "ok", nil},
		"no bridge": {Bridge("socketplane0", func(context.Context) (BridgeState, error) { return BridgeState{}, errors.New("no connection") }), "unknown",
			[]string{"no connection"}},
		"offload in the kernel": {offload("system", "ovs", true), "ok", nil},
		"offload with ovs":      {offload("netdev", "ovs", true), "error", []string{"remove open_vswitch", "RESTART"}},
		"no offload":            {offload("netdev", "kernel", false), "warning", []string{"userspace-tso-enable=true", "RESTART"}},
		"offload":               {offload("netdev", "kernel", true), "ok", nil},
		"no offload with ovs":   {offload("netdev", "ovs", false), "ok", nil},
		"offload not known":     {offload("", "", false), "unknown", nil},
		"store":                 {Store(kept(true, nil)), "ok", []string{"1 hosts, 1 up"}},
		"taken for down":        {Store(kept(false, nil)), "warning", []string{"for down"}},
		"store of one host":     {Store(alone), "warning", []string{"no other host"}},
		"store refuses":         {Store(kept(true, fmt.Errorf("get: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}))), "error", []string{"refuses connections", "start Consul"}},
		"no way to the store":   {Store(kept(true, fmt.Errorf("get: %w", syscall.EHOSTUNREACH))), "error", []string{"no way to 192.0.2.9:8500"}},
		"store hangs":           {Store(hanging), "error", []string{"takes connections and answers nothing", "raft list-peers"}},
		"store is stopped":      {Store(stopped), "error", []string{"process 77", "stopped by a signal", "kill -CONT 77"}},
		"store at no port":      {Store(socket), "error", []string{"deadline exceeded", "start Consul"}},
		"store has no leader":   {Store(kept(true, fmt.Errorf("%w: 500", store.ErrNoLeader))), "error", []string{"no leader", "raft list-peers"}},
		"store denies":          {Store(kept(true, fmt.Errorf("%w: 403", store.ErrDenied))), "error", []string{"access denied", "CONSUL_HTTP_TOKEN"}},
		"store's name":          {Store(kept(true, &net.DNSError{Name: "consul.example", IsNotFound: true})), "error", []string{"resolved", "getent hosts consul.example"}},
		"store speaks TLS":      {Store(kept(true, errors.New("net/http: HTTP/1.x transport connection broken: malformed HTTP response"))), "error", []string{"scheme", "https://"}},
		"store wants no TLS":    {Store(kept(true, errors.New("http: server gave HTTP response to HTTPS client"))), "error", []string{"scheme", "8500"}},
		"store has TLS only":    {Store(kept(true, errors.New("Consul answered 400 (Client sent an HTTP request to an HTTPS server.)"))), "error", []string{"scheme", "https://"}},
		"store's certificate":   {Store(kept(true, &tls.CertificateVerificationError{Err: errors.New("unknown authority")})), "error", []string{"unknown authority", "CONSUL_CACERT"}},
		"store of others":       {Store(elsewhere), "error", []string{"own record", "--consul-addr", "CONSUL_HTTP_TOKEN"}},
		"cluster":               {cluster(func(*adminapi.ClusterStatus) {}), "ok", []string{"open: any machine"}},
		"locked cluster":        {cluster(func(s *adminapi.ClusterStatus) { s.Locked = true }), "ok", []string{"token"}},
		"left":                  {cluster(func(s *adminapi.ClusterStatus) { s.State = "alone" }), "warning", []string{"has left", "cluster join"}},
		"joining":               {cluster(func(s *adminapi.ClusterStatus) { s.State = "joining" }), "error", []string{"joining"}},
		"trouble":               {cluster(func(s *adminapi.ClusterStatus) { s.Trouble = "no majority" }), "error", []string{"no majority"}},
		"foreign cluster": {cluster(func(s *adminapi.ClusterStatus) {
			s.Foreign = []adminapi.ForeignCluster{{Hosts: []string{"192.0.2.7:4780"}}}
		}), "warning", []string{"192.0.2.7"}},
		"no cluster":        {Cluster(nil), "ok", []string{"not applicable"}},
		"networks":          {Networks("", func() []string { return nil }, compared(time.Second, nil)), "ok", []string{"1s ago"}},
		"network's trouble": {Networks("", func() []string { return []string{"web: is taken"} }, compared(time.Second, errAway)), "error", []string{"web: is taken"}},
		"no mirror":         {Networks("made by hand", nil, nil), "ok", []string{"not applicable"}},
		"networks, no store": {Networks("", func() []string { return nil }, compared(time.Minute, errAway)), "unknown",
			[]string{"can't be compared: consul is away", "1m0s ago"}},
		"networks, never compared": {Networks("", func() []string { return nil }, func() (time.Time, error) { return time.Time{}, nil }), "unknown",
			[]string{"not compared yet"}},
		"networks, compared in vain": {Networks("", func() []string { return nil }, func() (time.Time, error) { return time.Time{}, errAway }), "unknown",
			[]string{"consul is away"}},
		"networks, long ago":           {Networks("", func() []string { return nil }, compared(time.Hour, nil)), "unknown", []string{"1h0m0s ago"}},
		"networks, one attempt failed": {Networks("", func() []string { return nil }, failsOnce()), "ok", nil},
		"identity":                     {Identity("id1", "", func() *Copy { return nil }, func(context.Context) error { return nil }), "ok", []string{"no other machine"}},
		"identity, no store":           {Identity("id1", "", func() *Copy { return nil }, func(context.Context) error { return errAway }), "unknown", []string{"consul is away"}},
		"identity in a file":           {Identity("id1", "a file", nil, nil), "ok", []string{"not applicable"}},
		"identity copied": {Identity("id1", "", func() *Copy { return &Copy{Name: "h9", Addr: "192.0.2.9", Cure: "CURE"} }, func(context.Context) error { return errAway }), "warning",
			[]string{"h9 at 192.0.2.9", "CURE"}},
		"stale":           {Stale(func(context.Context) ([]string, error) { return []string{"host h9 is away"}, nil }), "warning", []string{"h9"}},
		"not stale":       {Stale(func(context.Context) ([]string, error) { return nil, nil }), "ok", nil},
		"stale, no store": {Stale(func(context.Context) ([]string, error) { return nil, errAway }), "unknown", []string{"consul is away"}},
		"unpublished": {Published(func(context.Context) ([]string, error) { return []string{"network web: 1 of 3"}, nil }, "LOG"), "error",
			[]string{"network web: 1 of 3", "do not reach", "LOG"}},
		"published":           {Published(func(context.Context) ([]string, error) { return nil, nil }, "LOG"), "ok", nil},
		"published, no store": {Published(func(context.Context) ([]string, error) { return nil, errAway }, "LOG"), "unknown", []string{"consul is away"}},
		"no Docker":           {Docker{Host: "none"}.Check(), "ok", []string{"not applicable"}},
		"clocks, no store":    {Clocks(ClockDeps{Hosts: noPeers}), "unknown", []string{"consul is away"}},
		"clocks, IPv6": {Clocks(ClockDeps{Hosts: peers(Peer{Name: "h2", Alive: true, VTEP: netip.MustParseAddr("2001:db8::2")})}), "ok",
			[]string{"not applicable", "IPv6"}},
		"clocks":                              {clocks(nil, true, false, nil), "ok", []string{"differ by 3ms at most"}},
		"timestamps are dropped":              {clocks(ErrNoAnswer, true, false, nil), "ok", []string{"not applicable", "firewalls drop ICMP timestamps", "timedatectl"}},
		"timestamps are dropped, synced":      {clocks(ErrNoAnswer, true, true, nil), "ok", []string{"this host's clock is synchronised"}},
		"timestamps are dropped, not told":    {clocks(ErrNoAnswer, true, true, errAway), "ok", []string{"not applicable"}},
		"no host is reached":                  {clocks(ErrNoAnswer, false, true, nil), "unknown", []string{"no host tells its time", "ways to the other hosts"}},
		"hosts can't be asked for their time": {clocks(syscall.EPERM, true, false, nil), "ok", []string{"not applicable", "operation not permitted", "own firewall"}},
		"hosts can't be asked, nor reached":   {clocks(syscall.EPERM, false, false, nil), "unknown", []string{"operation not permitted"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			got := Run(t.Context(), []Check{tt.check})[0]
			if got.State != tt.state || got.State == adminapi.CheckOK && got.Cure != "" || got.Looked == "" {
				t.Errorf("%+v", got)
			}
			if cureless := map[string]bool{adminapi.CheckWarn: true, adminapi.CheckBad: true}[got.State] && got.Cure == ""; cureless {
				t.Errorf("no cure: %+v", got)
			}
			for _, word := range tt.words {
				if !strings.Contains(got.Text+" | "+got.Cure, word) {
					t.Errorf("it does not say %q: %s | %s", word, got.Text, got.Cure)
				}
			}
		})
	}
}
