package dockerwatch_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
)

// TestMain demands that no goroutine is left when all watchers have ended.
func TestMain(m *testing.M) { leaks.Main(m) }

// frontID begins with an alias of its container: only the ID's first twelve characters are an alias of Docker's own.
const frontID = "dbf6fc1637ce4b0c9ad1e8c5f2ab7c1c0d9e8f7a6b5c4d3e2f10a9b8c7d6e5f4"

// engine answers like Docker Engine 20.10, whose answers are the oddest; test/e2e has real ones.
type engine struct {
	mu      sync.Mutex
	created []map[string]any
	version string // of the API
	prune   int    // the answer to a prune
	asked   []string
	events  chan string
	server  *http.Server
	path    string
	drop    atomic.Bool  // streams of events end a moment after they began
	streams atomic.Int64 // how often events were asked for
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	version := cmp.Or(e.version, "1.41")
	w.Header().Set("Api-Version", version)
	path, versioned := strings.CutPrefix(r.URL.Path, "/v"+version)
	if !versioned && path != "/_ping" {
		http.Error(w, `{"message":"client version is too new"}`, http.StatusBadRequest)
		return
	}
	switch path {
	case "/_ping":
	case "/networks/prune":
		e.mu.Lock()
		defer e.mu.Unlock()
		e.asked = append(e.asked, r.Method+" "+r.URL.Query().Get("filters"))
		http.Error(w, `{"message":"as said"}`, e.prune)
	case "/events":
		if r.URL.Query().Get("until") != "" { // the past
			_, _ = io.WriteString(w, `{"Type":"network","Action":"destroy","Actor":{"ID":"d1"}}`+"\n"+
				`{"Type":"network","Action":"prune","Actor":{"ID":"","Attributes":{"reclaimed":"0"}}}`+"\n"+
				`{"Type":"container","Action":"destroy","Actor":{"ID":"d9"}}{"Type":"image","Action":"prune"}`)
			return
		}
		e.streams.Add(1)
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		if e.drop.Load() {
			<-time.After(20 * time.Millisecond)
			return
		}
		for {
			select {
			case text := <-e.events:
				_, _ = io.WriteString(w, text)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	case "/networks":
		if f := r.URL.Query().Get("filters"); f == "" || strings.Contains(f, "name") {
			_, _ = io.WriteString(w, `[{"Name":"web","Id":"d1","Driver":"socketplane","IPAM":{"Driver":"socketplane"}},
				{"Name":"x/../y 100% ","Id":"d7","Driver":"bridge","IPAM":{}},{"Name":"d1","Id":"d8","Driver":"bridge","IPAM":{}},
				{"Name":"lan","Id":"d4","Driver":"macvlan","IPAM":{"Driver":"socketplane","Config":[{"Subnet":"10.4.0.0/24"}]}},
				{"Name":"gone","Id":"d5","Driver":"macvlan","IPAM":{"Driver":"socketplane"}},{"Name":"bridge","Id":"d6","Driver":"bridge","IPAM":{"Driver":"default"}},
				{"Name":"shop","Id":"d7","Driver":"bridge","Scope":"local","IPAM":{"Driver":"default","Config":[{"Subnet":"172.18.0.0/16"},{"Subnet":"fd18::/64"}]}},
				{"Name":"cfg","Id":"d9","Driver":"null","Scope":"local","ConfigOnly":true,"IPAM":{"Driver":"socketplane","Config":[{"Subnet":"10.5.0.0/24"}]}},
				{"Name":"ingress","Id":"d8","Driver":"overlay","Scope":"swarm","IPAM":{"Config":[{"Subnet":"10.0.0.0/24"}]}}]`)
			return
		}
		_, _ = io.WriteString(w, `[{"Name":"web","Id":"d1","Driver":"socketplane","EnableIPv6":true,"Internal":true,"Labels":{"a":"b"},"IPAM":{"Driver":"default",
			"Config":[{"Subnet":"10.1.0.0/24","IPRange":"10.1.0.128/25","Gateway":"10.1.0.1","AuxiliaryAddresses":{"x":"10.1.0.5"}},
			{"Subnet":"fd00:1::/64","Gateway":"fd00:1::1/64"}]}},{"Name":"odd","Id":"d2","Driver":"socketplane","IPAM":{"Config":null}}]`)
	case "/info":
		_, _ = io.WriteString(w, `{"DefaultAddressPools":[{"Base":"10.200.0.0/16","Size":24},{"Base":"nonsense","Size":24},{"Base":"10.201.0.0/16","Size":8}]}`)
	case "/networks/d1":
		_, _ = io.WriteString(w, `{"Name":"web","Id":"d1","Containers":{"c1":{"EndpointID":"e1"},"ep-e2":{"EndpointID":"e2"}}}`)
	case "/networks/d4":
		_, _ = io.WriteString(w, `{"Name":"lan","Id":"d4","Containers":{"c1":{"IPv4Address":"10.4.0.2/24","IPv6Address":""},
			"c2":{"IPv4Address":"10.4.0.3/24","IPv6Address":"fd00:4::3/64"}}}`)
	case "/networks/create":
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		e.mu.Lock()
		e.created = append(e.created, body)
		e.mu.Unlock()
		if body["Name"] == "taken" || body["Name"] == dockerwatch.GatewayBridge && body["Options"].(map[string]any)["com.docker.network.driver.mtu"] == nil {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"message":"network with name taken already exists"}`)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"Id":"d3","Warning":""}`)
	case "/containers/json":
		_, _ = io.WriteString(w, `[{"Id":"`+frontID+`","Names":["/web/db","/front"],"NetworkSettings":{"Networks":{"web":{"NetworkID":"d1","EndpointID":"e1"}}}},
			{"Id":"c2","Names":["/other"],"NetworkSettings":{"Networks":{"bridge":{"EndpointID":"x"}}}}]`)
	case "/containers/" + frontID + "/json":
		_, _ = io.WriteString(w, `{"Id":"`+frontID+`","Name":"/front","Config":{"Labels":{"k":"v"}},
			"NetworkSettings":{"Networks":{"web":{"NetworkID":"d1","EndpointID":"e1","Aliases":["`+frontID[:12]+`","www","db"]}}}}`)
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"no such thing"}`)
	}
}

func (e *engine) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", e.path)
	if err != nil {
		t.Fatal(err)
	}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() { defer close(served); _ = e.server.Serve(l) }()
	t.Cleanup(func() {
		_ = e.server.Close()
		<-served
	})
}

// watch runs a watcher; woken gets a value for each event.
func watch(t *testing.T, e *engine) (w *dockerwatch.Watcher, woken chan struct{}) {
	t.Helper()
	woken = make(chan struct{}, 100)
	w = dockerwatch.New("unix://"+e.path, dockerwatch.Options{Driver: "socketplane", Heard: func(dockerwatch.Event) { woken <- struct{}{} }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w, woken
}

func wakes(t *testing.T, woken chan struct{}) {
	t.Helper()
	select {
	case <-woken:
	case <-time.After(time.Minute):
		t.Fatal("no wake")
	}
}

// TestEngineThatDropsStreams: an engine (or a proxy before it) that takes the question for events and ends the answer a moment later is asked seldom, and heard
// again when an answer lasts.
func TestEngineThatDropsStreams(t *testing.T) {
	e := &engine{events: make(chan string), path: filepath.Join(t.TempDir(), "d.sock")}
	e.drop.Store(true)
	e.start(t)
	w, woken := watch(t, e)
	const watched = 5 * time.Second
	<-time.After(watched)
	if n := e.streams.Load(); n < 3 || n > 14 { // 100, 200, 400 ms and so on up to 2 s, each at least half of that
		t.Errorf("%d questions in %v", n, watched)
	}
	e.drop.Store(false)
	for w.Ready() != nil {
		wakes(t, woken)
	}
	if err := e.server.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	e := &engine{events: make(chan string), path: filepath.Join(t.TempDir(), "d.sock")}
	w, woken := watch(t, e)
	if err := w.Ready(); !errors.Is(err, dockerwatch.ErrUnavailable) {
		t.Errorf("before Docker is there: %v", err)
	}
	e.start(t)
	wakes(t, woken) // whatever was missed
	if err := w.Ready(); err != nil {
		t.Error(err)
	}
	e.events <- `{"Type":"network","Action":"create","Actor":{"ID":"d1","Attributes":{"name":"web"}}}` + "\n"
	wakes(t, woken)
	if err := e.server.Close(); err != nil {
		t.Fatal(err)
	}
	e.start(t)
	wakes(t, woken) // after Docker's restart
	if err := e.server.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestWhyRemoved: what tells `docker network rm` from a prune, without ever pruning anything.
func TestWhyRemoved(t *testing.T) {
	e := &engine{events: make(chan string), path: filepath.Join(t.TempDir(), "d.sock")}
	e.start(t)
	before := time.Now()
	w, woken := watch(t, e)
	wakes(t, woken)
	if heard, err := w.Heard(); err != nil || heard.Before(before) || heard.After(time.Now()) {
		t.Errorf("heard since %v, %v", heard, err)
	}
	for answer, want := range map[int]string{
		http.StatusConflict: "true <nil>", http.StatusBadRequest: "false <nil>", http.StatusOK: "false <nil>",
		http.StatusForbidden: "false whether docker prunes: docker refuses: as said", http.StatusInternalServerError: "docker refuses",
	} {
		e.prune = answer
		running, err := w.Pruning(t.Context())
		if got := fmt.Sprint(running, " ", err); !strings.Contains(got, want) {
			t.Errorf("after answer %d: %s, want %s", answer, got, want)
		}
	}
	for _, asked := range e.asked {
		// Both alone keep Docker from removing anything.
		if !strings.Contains(asked, `"socketplane.is-a-prune-running":{"yes":true}`) || !strings.Contains(asked, `"label":{"socketplane.no-network-has-this":true}`) {
			t.Errorf("asked for %s", asked)
		}
	}
	for id, want := range map[string]string{"d1": "{Pruned:[image network] Destroyed:true}", "d9": "{Pruned:[image network] Destroyed:false}"} {
		past, err := w.Past(t.Context(), id, time.Now().Add(time.Hour)) // a clock that was set back
		if got := fmt.Sprintf("%+v", past); err != nil || got != want {
			t.Errorf("past of %s: %s, %v", id, got, err)
		}
	}
}

// TestFamilies: a copy has exactly the IP families of its subnets; an engine that always adds IPv4 is not asked for one without.
func TestFamilies(t *testing.T) {
	v4, v6 := dockerwatch.Subnet{CIDR: netip.MustParsePrefix("10.9.0.0/24")}, dockerwatch.Subnet{CIDR: netip.MustParsePrefix("fd00:9::/64")}
	for _, tt := range []struct {
		version string
		subnets []dockerwatch.Subnet
		want    string // EnableIPv4 and EnableIPv6, or what the error says
	}{
		{"1.41", []dockerwatch.Subnet{v4}, "true false"},
		{"1.41", []dockerwatch.Subnet{v4, v6}, "true true"},
		{"1.41", []dockerwatch.Subnet{v6}, "upgrade Docker to 28 or later here, or create the network with an IPv4 subnet as well"},
		{"1.47", []dockerwatch.Subnet{v6}, "(API 1.47) can't make a network without IPv4"},
		{"1.48", []dockerwatch.Subnet{v4}, "true false"},
		{"1.48", []dockerwatch.Subnet{v4, v6}, "true true"},
		{"1.48", []dockerwatch.Subnet{v6}, "false true"},
		{"1.52", []dockerwatch.Subnet{v6}, "false true"},
	} {
		e := &engine{version: tt.version, events: make(chan string), path: filepath.Join(t.TempDir(), "d.sock")}
		e.start(t)
		w, woken := watch(t, e)
		wakes(t, woken)
		_, err := w.Create(t.Context(), dockerwatch.Network{Name: "n", Subnets: tt.subnets, IPv6: tt.subnets[len(tt.subnets)-1].CIDR == v6.CIDR})
		got := fmt.Sprint(err)
		if len(e.created) == 1 {
			got = fmt.Sprint(e.created[0]["EnableIPv4"], " ", e.created[0]["EnableIPv6"])
		}
		if !strings.Contains(got, tt.want) || (err != nil) != errors.Is(err, dockerwatch.ErrRefused) {
			t.Errorf("API %s, %v: %s, want %s", tt.version, tt.subnets, got, tt.want)
		}
	}
}

func TestAnswersOfOldEngines(t *testing.T) {
	e := &engine{events: make(chan string), path: filepath.Join(t.TempDir(), "d.sock")}
	e.start(t)
	w, woken := watch(t, e)
	wakes(t, woken)
	ctx := t.Context()

	networks, err := w.Networks(ctx)
	if err != nil || len(networks) != 2 {
		t.Fatalf("%v %+v", err, networks)
	}
	web := networks[0]
	if len(web.Subnets) != 2 || web.Subnets[1].Gateway != netip.MustParseAddr("fd00:1::1") || web.Subnets[0].Aux["x"] != netip.MustParseAddr("10.1.0.5") ||
		!web.IPv6 || !web.Internal || web.Labels["a"] != "b" || web.IPAMDriver != "default" {
		t.Errorf("network is %+v", web)
	}
	known, err := w.Endpoints(ctx, "d1")
	if err != nil || !known["e1"] || !known["e2"] || len(known) != 2 {
		t.Errorf("endpoints: %v %v", err, known)
	}
	addrs, err := w.Addresses(ctx)
	if err != nil || len(addrs) != 3 || !addrs[netip.MustParseAddr("10.4.0.2")] || !addrs[netip.MustParseAddr("fd00:4::3")] {
		t.Errorf("addresses on other drivers' networks: %v %v", err, addrs)
	}
	for name, want := range map[string]string{"web": "d1", "x/../y 100% ": "d7", "d1": "d8"} {
		if n, err := w.Named(ctx, name); err != nil || n.ID != want {
			t.Errorf("%q is %v, %v", name, n.ID, err)
		}
	}
	if _, err := w.Named(ctx, "d4"); !errors.Is(err, dockerwatch.ErrNotFound) {
		t.Errorf("an id is taken for a name: %v", err)
	}
	if _, err := w.Named(ctx, "nope"); !errors.Is(err, dockerwatch.ErrNotFound) {
		t.Errorf("no such network: %v", err)
	}
	id, err := w.Create(ctx, dockerwatch.Network{Name: "new", Subnets: web.Subnets, IPAMOptions: map[string]string{"k": "v"}})
	if err != nil || id != "d3" {
		t.Errorf("create: %v %s", err, id)
	}
	if made := e.created[0]; made["CheckDuplicate"] != true || made["Driver"] != "socketplane" || made["IPAM"].(map[string]any)["Driver"] != "socketplane" {
		t.Errorf("asked for %v", made)
	}
	_, err = w.Create(ctx, dockerwatch.Network{Name: "taken"})
	if !errors.Is(err, dockerwatch.ErrRefused) || !strings.Contains(err.Error(), "network with name taken already exists") {
		t.Errorf("create what is there: %v", err)
	}
	if err := w.Remove(ctx, "nope"); err != nil {
		t.Errorf("remove what is not there: %v", err)
	}
	all, err := w.Attachments(ctx, []string{frontID}, func(endpoint, name string) bool { return endpoint == "e1" && name == "front" })
	if err != nil || len(all) != 1 || all[0].Name != "front" || strings.Join(all[0].Aliases, " ") != "www db" || all[0].Labels["k"] != "v" {
		t.Errorf("attachments: %v %+v", err, all)
	}
}

// TestOwn: what this host's Docker has by itself, and docker_gwbridge as Docker makes it. A network of --config-only uses nothing: it
// is a template for --config-from.
func TestOwn(t *testing.T) {
	e := &engine{events: make(chan string), path: filepath.Join(t.TempDir(), "d.sock")}
	e.start(t)
	w, woken := watch(t, e)
	wakes(t, woken)
	ctx := t.Context()

	locals, err := w.Locals(ctx)
	if err != nil || len(locals) != 1 || locals[0].Name != "shop" || fmt.Sprint(locals[0].Subnets) != "[172.18.0.0/16 fd18::/64]" {
		t.Errorf("own networks: %v %+v", err, locals)
	}
	held, err := w.Pools(ctx)
	if err != nil || len(held) != 1 || !held[netip.MustParsePrefix("10.4.0.0/24")] {
		t.Errorf("subnets with our IPAM: %v %v", err, held)
	}
	pools, err := w.DefaultPools(ctx)
	if want := (dockerwatch.Range{Base: netip.MustParsePrefix("10.200.0.0/16"), Bits: 24}); err != nil || len(pools) != 1 || pools[0] != want {
		t.Errorf("address pools: %v %+v", err, pools)
	}
	subnet := netip.MustParsePrefix("192.168.240.0/20")
	if err := w.MakeGatewayBridge(ctx, subnet, 1400); err != nil {
		t.Error(err)
	}
	made := e.created[0]
	options, ipam := made["Options"].(map[string]any), made["IPAM"].(map[string]any)
	if made["Name"] != "docker_gwbridge" || made["Driver"] != "bridge" || options["com.docker.network.driver.mtu"] != "1400" ||
		options["com.docker.network.bridge.name"] != "docker_gwbridge" || options["com.docker.network.bridge.enable_icc"] != "false" ||
		options["com.docker.network.bridge.enable_ip_masquerade"] != "true" || ipam["Config"].([]any)[0].(map[string]any)["Subnet"] != subnet.String() {
		t.Errorf("asked for %v", made)
	}
	// At Docker's usual MTU no option is needed, which this engine refuses.
	if err := w.MakeGatewayBridge(ctx, subnet, 1500); !errors.Is(err, dockerwatch.ErrRefused) {
		t.Errorf("refused: %v", err)
	}
}
