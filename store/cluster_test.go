package store_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
	"github.com/socketplane/socketplane/store/consul"
)

func TestMain(m *testing.M) { leaks.Main(m) }

// patience bounds what one test may take; only a test that fails waits for it.
const patience = 60 * time.Second

var (
	poolA = netip.MustParsePrefix("10.1.0.0/24")
	poolB = netip.MustParsePrefix("10.2.0.0/24")
	pool6 = netip.MustParsePrefix("fd00:1::/64")
)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// world is an empty store and the hosts that share it.
type world struct {
	*testing.T
	ctx context.Context
	kv  store.KV
	// second says that records have the second layout.
	second bool
}

func (w *world) host(id string) *store.Cluster { return store.NewCluster(w.kv, id) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) wants(err, want error, texts ...string) {
	w.Helper()
	testenv.Wants(w, err, want, texts...)
}

var (
	random  = regexp.MustCompile(`[0-9a-f]{16}`)
	moment  = regexp.MustCompile(`"(joined|made|expires)":"[^"]*"`)
	randVNI = regexp.MustCompile(`(vnis/|"vni":)\d+`)
	shard   = regexp.MustCompile(`(shards/.* = )[0-9a-f]+$`)
)

// dump is everything in the store, with what is drawn at random made equal.
func (w *world) dump() []string {
	w.Helper()
	entries, err := w.kv.List(w.ctx, "socketplane/")
	w.must(err)
	var lines []string
	for _, e := range entries {
		if w.second && ofLayout(e.Key) {
			continue
		}
		line := random.ReplaceAllString(e.Key+" = "+string(e.Value), "#")
		line = moment.ReplaceAllString(line, `"$1":"#"`)
		line = shard.ReplaceAllString(line, "${1}#")
		lines = append(lines, randVNI.ReplaceAllString(line, "${1}#"))
	}
	slices.Sort(lines)
	return lines
}

// ofLayout says whether a key is there because of the layout alone.
func ofLayout(key string) bool {
	return key == store.LayoutKey || key == store.SchemaKey || store.Last(key) == "permanent" || strings.HasPrefix(key, store.HostShardsPrefix)
}

// bound tells which hosts have a network, as "host=Docker's id", and which let go of it, as "host away".
func (w *world) bound(network string) (all []string) {
	w.Helper()
	bindings, err := w.host("reader").BoundTo(w.ctx, network)
	w.must(err)
	for host, b := range bindings {
		switch {
		case b.Away:
			all = append(all, host+" away")
		default:
			all = append(all, host+"="+b.DockerID)
		}
	}
	slices.Sort(all)
	return all
}

// holders tells who holds a pool.
func (w *world) holders(pool netip.Prefix) (all []string) {
	w.Helper()
	owners, err := w.host("reader").Holders(w.ctx, pool)
	w.must(err)
	for _, o := range owners {
		all = append(all, o.String())
	}
	return all
}

func (w *world) empty() {
	w.Helper()
	if rest := w.dump(); len(rest) > 0 {
		w.Fatalf("keys are left: %q", rest)
	}
}

func (w *world) wipe() {
	entries, err := w.kv.List(w.ctx, "socketplane/")
	w.must(err)
	for batch := range slices.Chunk(entries, store.MaxOps) {
		var ops []store.Op
		for _, e := range batch {
			ops = append(ops, store.Op{Kind: store.OpRemove, Key: e.Key})
		}
		w.must(w.kv.Apply(w.ctx, ops...))
	}
	if w.second {
		w.must(w.host("first").BeginLayout(w.ctx))
	}
}

// claims lists who has what in a pool, as "address=owner".
func (w *world) claims(pool netip.Prefix) []string {
	w.Helper()
	blocks, err := w.host("reader").Blocks(w.ctx, pool)
	w.must(err)
	var lines []string
	for _, b := range blocks {
		for a, c := range b.Claims {
			lines = append(lines, fmt.Sprintf("%s=%s", a, c.Owner))
		}
	}
	slices.Sort(lines)
	return lines
}

// together runs do for n hosts at once.
func (w *world) together(n int, do func(i int, c *store.Cluster)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i, w.host(fmt.Sprintf("host-%02d", i))) })
	}
	wg.Wait()
}

// TestCluster holds the records' rules on every kind of store.
func TestCluster(t *testing.T) {
	suites := map[string]func(*world){
		"pools": testPools, "pools-overlap-race": testOverlapRace, "pools-same-choice": testSameChoice,
		"pools-last-two-released-at-once": testReleaseRace, "pool-of-many-blocks": testManyBlocks,
		"claims": testClaims, "blocks": testBlocks, "full-blocks": testFullBlocks, "asks": testAsks, "claims-race": testClaimsRace, "claims-block-boundaries": testBlockBoundaries, "gateway": testGateway,
		"bind": testBind, "bind-refused": testBindRefused, "bind-race": testBindRace, "bind-churn": testBindChurn,
		"name-later": testNameLater, "dual-stack": testDualStack, "most-pools": testMostPools,
		"declare": testDeclare, "declare-race": testDeclareRace, "create": testCreate, "release": testRelease,
		"made-anew": testMadeAnew, "remove-host": testRemoveHost, "garbage": testGarbage, "gone": testGone,
		"endpoints": testEndpoints, "endpoints-former": testEndpointsFormer, "hosts": testHosts, "uses-refused": testUsesRefused, "uses-known": testUsesKnown, "newer-schema": testNewerSchema, "newer-alone": testNewerAlone,
		"layout": testLayout, "layout-begins": testLayoutBegins, "layout-operator": testLayoutOperator, "layout-newer": testLayoutNewer,
		"parts": testParts, "parts-many": testPartsMany, "parts-too-large": testPartsTooLarge, "parts-forms": testPartsForms, "parts-torn": testPartsTorn, "terms": testTerms, "publish-late": testPublishLate, "withdraw-gone": testWithdrawGone, "publish-change": testPublishChange,
		"parts-garbage": testPartsGarbage, "layout-back": testLayoutBack,
		"heads": testHeads, "heads-raised": testHeadsRaised, "heads-while-raised": testHeadsWhileRaised, "heads-cut-off": testHeadsCutOff, "heads-by-hand": testHeadsByHand,
		"heads-deposed": testHeadsDeposed, "heads-unwritten": testHeadsUnwritten, "janitor": testJanitor, "janitor-race": testJanitorRace,
		"alive": testAlive, "permanent": testPermanent, "ended-context": testEndedContext,
		"admit": testAdmit, "admit-again": testAdmitAgain, "token-race": testTokenRace, "lock": testLock, "lock-race": testLockRace,
		"member-changes": testMemberChanges, "tokens": testTokens,
		"import": testImport, "import-collides": testImportCollides, "import-gives-way": testImportGivesWay, "import-big": testImportBig,
		"import-race": testImportRace, "import-faults": testImportFaults, "import-from": testImportFrom,
		"faults": testFaults, "odd-names": testOddNames,
		"bound": testBound, "bound-raised": testBoundRaised, "bound-strays": testBoundStrays, "bound-cut-off": testBoundCutOff, "bound-at-once": testBoundAtOnce,
		"bound-while-raised": testBoundWhileRaised, "last-out": testLastOut, "closing": testClosing, "bound-unreadable": testBoundUnreadable,
	}
	// These begin with a store without a layout, or with the first.
	firstOnly := []string{
		"layout", "layout-begins", "layout-operator", "layout-newer", "layout-back", "alive", "permanent", "bound-raised", "bound-strays", "bound-cut-off", "bound-while-raised",
		"parts", "parts-many", "parts-too-large", "parts-forms", "parts-torn", "parts-garbage", "endpoints-former", "terms", "publish-change",
		"heads-raised", "heads-while-raised", "heads-cut-off",
	}
	secondOnly := []string{"publish-late", "heads", "heads-unwritten", "heads-by-hand", "heads-deposed", "janitor-race", "bound-at-once", "closing", "bound-unreadable"}
	backends := map[string]func(t *testing.T) store.KV{
		"bolt": func(t *testing.T) store.KV {
			kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			return kv
		},
		"consul": func(t *testing.T) store.KV {
			kv, err := consul.Open(consul.Options{Address: testenv.Consul(t).Addr})
			if err != nil {
				t.Fatal(err)
			}
			return kv
		},
	}
	for backend, open := range backends {
		t.Run(backend, func(t *testing.T) {
			kv := open(t)
			defer kv.Close()
			for _, second := range []bool{false, true} {
				for _, name := range slices.Sorted(maps.Keys(suites)) {
					if second && slices.Contains(firstOnly, name) || !second && slices.Contains(secondOnly, name) {
						continue
					}
					t.Run(fmt.Sprintf("layout-%d/%s", map[bool]int{false: 1, true: 2}[second], name), func(t *testing.T) {
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						w := &world{t, ctx, kv, second}
						w.wipe()
						suites[name](w)
					})
				}
			}
		})
	}
}
