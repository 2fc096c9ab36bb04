package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// setLayout writes a cluster of this layout.
func (w *world) setLayout(layout int) {
	w.Helper()
	w.must(w.host("operator").SetLayout(w.ctx, layout))
}

// labelled is an endpoint of a container with labels of so many bytes.
func labelled(n, labels int) store.Endpoint {
	e := store.Endpoint{
		ID: fmt.Sprintf("%064x", n), MAC: fmt.Sprintf("02:00:00:%02x:%02x:%02x", n>>16&255, n>>8&255, n&255), MTU: 1450,
		Addrs:     []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})},
		Container: &store.Container{ID: fmt.Sprintf("%064x", n+1<<20), Name: fmt.Sprint("project-web-", n), Aliases: []string{"web"}},
	}
	if labels > 0 {
		e.Container.Labels = map[string]string{"com.docker.compose.config-hash": strings.Repeat("x", labels)}
	}
	return e
}

func labelledOnes(first, count, labels int) (all []store.Endpoint) {
	for n := range count {
		all = append(all, labelled(first+n, labels))
	}
	return all
}

// published checks that other hosts read a host's endpoints on a network as they were published.
func (w *world) published(network, host string, want []store.Endpoint) {
	w.Helper()
	got, err := w.host("reader").Endpoints(w.ctx, network, host)
	w.must(err)
	if g, x := string(store.Encode(got.Endpoints)), string(store.Encode(want)); g != x && len(got.Endpoints)+len(want) > 0 {
		w.Fatalf("%d endpoints of %s are read, %d were published:\n%.300s\n%.300s", len(got.Endpoints), host, len(want), g, x)
	}
	all, err := w.host("reader").AllEndpoints(w.ctx, network)
	w.must(err)
	var its []store.Endpoint
	for _, h := range all {
		if h.Host == host {
			its = h.Endpoints
		}
	}
	slices.SortFunc(its, func(a, b store.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	if g, x := string(store.Encode(its)), string(store.Encode(want)); g != x && len(its)+len(want) > 0 {
		w.Fatalf("among all %d endpoints of %s are listed, %d were published:\n%.300s\n%.300s", len(its), host, len(want), g, x)
	}
	users, err := w.host("reader").Users(w.ctx, network)
	w.must(err)
	if slices.Contains(users, host) != (len(want) > 0) {
		w.Fatalf("users are %v, %s has %d endpoints", users, host, len(want))
	}
}

// keys counts the keys that begin so.
func (w *world) keys(prefix string) (n int) {
	w.Helper()
	entries, err := w.kv.List(w.ctx, store.Root+prefix)
	w.must(err)
	return len(entries)
}

// testParts: in the second layout endpoints are in parts; a change writes the part that has it, and
// nothing is left when the network goes.
func testParts(w *world) {
	w.setLayout(2)
	a, b := w.host("a"), w.host("b")
	n, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	w.wants(b.PutEndpoints(w.ctx, n.ID, labelledOnes(0, 1, 0)), store.ErrNotFound)
	_, err = b.Bind(w.ctx, binding("db", "", poolA))
	w.must(err)
	all := labelledOnes(0, 100, 20)
	w.must(a.PutEndpoints(w.ctx, n.ID, all))
	w.must(b.PutEndpoints(w.ctx, n.ID, labelledOnes(1000, 1, 0)))
	w.published(n.ID, "a", all)
	if parts, labels := w.keys("parts/"+n.ID+"/a/"), w.keys("labels/"+n.ID+"/a/"); parts != 7 || labels != 7 {
		w.Errorf("%d parts and %d records of labels", parts, labels)
	}
	shards, index, err := b.WatchShards(w.ctx, n.ID, "", 0)
	w.must(err)
	heads, bad, err := b.Heads(w.ctx, n.ID, nil, store.ShardOf("a"))
	w.must(err)
	if len(bad) > 0 || len(heads["a"].Parts) != 7 || shards[n.ID][store.ShardOf("a")] == 0 {
		w.Fatalf("shards are %v, heads %v, %v", shards, heads, bad)
	}
	// One more, one less, one other: they are in the parts that they are in.
	known := heads["a"].Parts
	all = append(all[1:], labelled(200, 0))
	all[50].Addrs = []netip.Addr{addr("10.1.0.250")}
	w.must(a.PutEndpoints(w.ctx, n.ID, all))
	w.published(n.ID, "a", all)
	if _, next, err := b.WatchShards(w.ctx, n.ID, "", index); err != nil || next == index {
		w.Errorf("the shards were not changed: %v", err)
	}
	heads, _, err = b.Heads(w.ctx, n.ID, nil)
	w.must(err)
	changed, gone := heads["a"].Changed(known)
	if len(changed) != 2 || len(gone) != 0 || len(heads) != 2 {
		w.Errorf("parts %v are others, %v are gone: %v", changed, gone, heads)
	}
	same, _, err := b.Heads(w.ctx, n.ID, func(host string) uint64 { return map[string]uint64{"a": heads["a"].Version, "b": 1}[host] })
	w.must(err)
	if same["a"].Parts != nil || same["a"].Version != heads["a"].Version || !reflect.DeepEqual(same["b"], heads["b"]) {
		w.Errorf("of %v the reader, who knows a's, gets %v", heads, same)
	}
	read, unread, err := b.Parts(w.ctx, n.ID, "a", heads["a"], changed)
	w.must(err)
	if len(read) != 2 || len(unread) > 0 || read[changed[0]].Hash != heads["a"].Parts[changed[0]] {
		w.Errorf("parts are %v, %v", read, unread)
	}
	// Labels alone wake none of the watchers.
	before := w.keysAndVersions("shards/" + n.ID)
	all[3].Container.Labels = map[string]string{"other": "one"}
	w.must(a.PutEndpoints(w.ctx, n.ID, all))
	w.published(n.ID, "a", all)
	dump := w.dump()
	w.must(a.PutEndpoints(w.ctx, n.ID, all)) // the same
	if after := w.dump(); !slices.Equal(after, dump) || before != w.keysAndVersions("shards/"+n.ID) {
		w.Errorf("the same again changed %q to %q", dump, after)
	}
	w.must(a.PutEndpoints(w.ctx, n.ID, nil))
	w.published(n.ID, "a", nil)
	if rest := w.keys("parts/"+n.ID+"/a/") + w.keys("labels/"+n.ID+"/a/"); rest > 0 {
		w.Errorf("%d records are left", rest)
	}
	w.must(a.PutEndpoints(w.ctx, n.ID, all))
	w.must(a.Unbind(w.ctx, n.ID, "da"))
	w.published(n.ID, "a", nil)
	w.wants(a.PutEndpoints(w.ctx, n.ID, all), store.ErrNotFound)
	w.must(b.Unbind(w.ctx, n.ID, "db"))
	for _, kind := range []string{"parts/", "labels/", "heads/", "shards/" + n.ID, "endpoints/", "index/" + n.ID, "networks/"} {
		if rest := w.keys(kind); rest > 0 {
			w.Errorf("%d keys are left below %s", rest, kind)
		}
	}
}

func (w *world) keysAndVersions(prefix string) string {
	w.Helper()
	entries, err := w.kv.List(w.ctx, store.Root+prefix)
	w.must(err)
	var all []string
	for _, e := range entries {
		all = append(all, fmt.Sprint(e.Key, " ", e.Version))
	}
	return strings.Join(all, "\n")
}

// testPartsMany: 1,500 containers with 4 KiB of labels each on one host are published and read, in
// the second layout without a word; in the first one with word that agents of before do not learn
// of them. Nothing is lost on the way back.
func testPartsMany(w *world) {
	a := w.host("a")
	n, err := a.Bind(w.ctx, binding("da", "", netip.MustParsePrefix("10.1.0.0/16")))
	w.must(err)
	all := labelledOnes(0, 1500, 4000)
	w.wants(a.PutEndpoints(w.ctx, n.ID, all), store.ErrFormerAgents, "1500 endpoints", "layout 2")
	w.published(n.ID, "a", all)
	w.setLayout(2)
	w.must(a.PutEndpoints(w.ctx, n.ID, all))
	w.published(n.ID, "a", all)
	all = all[:1499]
	w.must(a.PutEndpoints(w.ctx, n.ID, all))
	w.published(n.ID, "a", all)
	w.must(a.PutEndpoints(w.ctx, n.ID, all[:3]))
	w.published(n.ID, "a", all[:3])
	w.setLayout(1)
	w.must(a.PutEndpoints(w.ctx, n.ID, all[:3]))
	w.published(n.ID, "a", all[:3])
	if rest := w.keys("parts/") + w.keys("labels/") + w.keys("heads/"); rest > 0 {
		w.Errorf("%d records of the second layout are left", rest)
	}
	w.must(a.PutEndpoints(w.ctx, n.ID, nil))
	w.published(n.ID, "a", nil)
}

// testPartsTooLarge: an endpoint that no record can have is told, and keeps none of the others
// back.
func testPartsTooLarge(w *world) {
	w.setLayout(2)
	a := w.host("a")
	n, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	all := labelledOnes(0, 40, 0)
	all[7].Container.Aliases = []string{strings.Repeat("x", store.MaxValue)}
	for _, big := range []int{8, 9, 10, 11} { // each fits alone
		all[big].Container.Aliases = []string{strings.Repeat("y", store.MaxValue/4-1000)}
	}
	w.wants(a.PutEndpoints(w.ctx, n.ID, all), store.ErrInvalid, "endpoint 000000000000", "of names")
	w.published(n.ID, "a", slices.Concat(all[:7], all[8:]))
	w.must(a.PutEndpoints(w.ctx, n.ID, all[:5]))
	w.published(n.ID, "a", all[:5])
}

// testPartsForms: three hosts publish at random while the layout is raised and lowered; whatever
// form their records have, others read what was published last.
func testPartsForms(w *world) {
	draw := rand.New(rand.NewPCG(1, 2))
	ids := []string{"a", "b", "c"}
	want := map[string][]store.Endpoint{}
	var network string
	for _, id := range ids {
		n, err := w.host(id).Bind(w.ctx, binding("d"+id, "", poolA))
		w.must(err)
		network = n.ID
	}
	w.put(store.AliveKey("a"), "a") // changes its records itself when the layout is lowered
	for range 60 {
		number := draw.IntN(len(ids))
		id := ids[number]
		switch draw.IntN(6) {
		case 0:
			w.setLayout(1 + draw.IntN(2))
		case 1:
			want[id] = nil
		default:
			first := 1000*number + draw.IntN(30)
			want[id] = labelledOnes(first, draw.IntN(50), draw.IntN(2)*30)
		}
		w.must(w.host(id).PutEndpoints(w.ctx, network, want[id]))
		w.published(network, id, want[id])
		if former, parts := w.keys("index/"+network+"/"+id), w.keys("heads/"+network+"/"+store.ShardOf(id)+"/"+id); len(want[id]) > 0 && former+parts != 1 {
			w.Fatalf("%s has %d records of the first form and %d heads", id, former, parts)
		}
	}
	for _, id := range ids {
		w.published(network, id, want[id])
	}
}

// testPartsTorn: whatever of a large change has taken effect, the next one leads to what is wanted,
// and readers meanwhile see what was there or what is wanted, no head of parts that are not there.
func testPartsTorn(w *world) {
	w.setLayout(2)
	n, err := w.host("a").Bind(w.ctx, binding("da", "", netip.MustParsePrefix("10.1.0.0/16")))
	w.must(err)
	states := [][]store.Endpoint{labelledOnes(0, 1200, 900), labelledOnes(600, 1100, 800), labelledOnes(0, 5, 10), nil}
	for i, to := range append(slices.Clone(states), states...) {
		for fail := range 4 {
			broken := store.NewCluster(&failing{KV: w.kv, after: fail}, "a")
			if err := broken.PutEndpoints(w.ctx, n.ID, to); err != nil && !errors.Is(err, errTorn) {
				w.Fatal(err)
			}
			heads, _, err := w.host("b").Heads(w.ctx, n.ID, nil)
			w.must(err)
			for number, hash := range heads["a"].Parts {
				parts, _, err := w.host("b").Parts(w.ctx, n.ID, "a", heads["a"], []int{number})
				w.must(err)
				if _, is := parts[number]; hash != "" && !is {
					w.Fatalf("step %d, fault %d: the head names part %d, which is not there", i, fail, number)
				}
			}
		}
		w.must(w.host("a").PutEndpoints(w.ctx, n.ID, to))
		w.published(n.ID, "a", to)
		if parts := w.keys("parts/"); parts > (len(to)+store.PartSize-1)/store.PartSize+80 {
			w.Errorf("step %d: %d parts for %d endpoints", i, parts, len(to))
		}
	}
	if rest := w.keys("parts/") + w.keys("labels/") + w.keys("heads/"); rest > 0 {
		w.Errorf("%d records are left", rest)
	}
}

var errTorn = errors.New("torn")

// failing is a store that fails after some transactions; the one that fails has taken effect or
// not, in turns.
type failing struct {
	store.KV
	after int
}

func (f *failing) Apply(ctx context.Context, ops ...store.Op) error {
	if f.after--; f.after >= 0 {
		return f.KV.Apply(ctx, ops...)
	}
	if f.after%2 == 0 {
		if err := f.KV.Apply(ctx, ops...); err != nil {
			return err
		}
	}
	return errTorn
}

// testLayoutBack: who sets the first layout again finds the endpoints of hosts that are off in its
// form; those of hosts that are up are theirs.
func testLayoutBack(w *world) {
	w.setLayout(2)
	var network string
	for _, id := range []string{"off", "up"} {
		c := w.host(id)
		w.must(c.PutHost(w.ctx, store.Host{Name: id}))
		n, err := c.Bind(w.ctx, binding("d"+id, "", poolA))
		w.must(err)
		network = n.ID
		w.must(c.PutEndpoints(w.ctx, network, labelledOnes(0, 20, 10)))
	}
	w.must(w.kv.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.AliveKey("up"), Value: []byte("x")}))
	w.setLayout(1)
	if former, parts := w.keys("index/"+network+"/off"), w.keys("heads/"+network+"/"+store.ShardOf("off")+"/off"); former != 1 || parts != 0 {
		w.Errorf("the host that is off has %d records of the first form and %d heads", former, parts)
	}
	for _, id := range []string{"off", "up"} {
		w.published(network, id, labelledOnes(0, 20, 10))
	}
	if with, err := w.host("x").WithParts(w.ctx); err != nil || !slices.Equal(with, []string{"up"}) {
		w.Errorf("parts are of %v, %v", with, err)
	}
}

// testPartsGarbage: records of hosts that do not have the network are found and removed; those of
// others stay.
func testPartsGarbage(w *world) {
	w.setLayout(2)
	a := w.host("a")
	w.must(a.PutHost(w.ctx, store.Host{Name: "a"}))
	n, err := a.Bind(w.ctx, binding("da", "", poolA))
	w.must(err)
	all := labelledOnes(0, 20, 10)
	w.must(a.PutEndpoints(w.ctx, n.ID, all))
	if found, err := a.Garbage(w.ctx); err != nil || len(found) > 0 {
		w.Fatalf("garbage is %+v, %v", found, err)
	}
	shard := w.keysAndVersions("shards/" + n.ID + "/" + store.ShardOf("z"))
	for _, network := range []string{n.ID, "0000000000000001"} {
		for _, key := range []string{store.PartKey(network, "z", 0), store.LabelsKey(network, "z", 0), store.HeadKey(network, "z")} {
			w.put(key, `{"schema":1}`)
		}
	}
	w.put(store.ShardKey("0000000000000001", "0a"), "x")
	w.put(store.ShardsOf("0000000000000001")+"permanent", `{"schema":1}`)
	found, err := a.Garbage(w.ctx)
	w.must(err)
	if len(found) != 8 {
		w.Errorf("garbage is %+v", found)
	}
	for _, g := range found {
		w.must(g.Remove(w.ctx))
	}
	if found, err = a.Garbage(w.ctx); err != nil || len(found) > 0 {
		w.Errorf("garbage is still %+v, %v", found, err)
	}
	if after := w.keysAndVersions("shards/" + n.ID + "/" + store.ShardOf("z")); after == shard {
		w.Error("watchers of the network do not hear that a head went")
	}
	w.published(n.ID, "a", all)
}

// TestShards: hosts are spread over the shards, and stay where they are.
func TestShards(t *testing.T) {
	count := map[string]int{}
	for n := range 1000 {
		count[store.ShardOf(fmt.Sprintf("%016x", n*0x9e3779b9))]++
	}
	if len(count) != store.Shards {
		t.Errorf("%d shards are used", len(count))
	}
	for shard, n := range count {
		if n > 60 {
			t.Errorf("shard %s has %d of 1,000 hosts", shard, n)
		}
	}
	if got := store.ShardOf("0123456789abcdef"); got != store.ShardOf("0123456789abcdef") || len(got) != 2 {
		t.Errorf("shard is %q", got)
	}
}
