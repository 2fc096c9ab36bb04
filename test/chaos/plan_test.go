package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// hosts is how many there are.
const hosts = 3

// A host's containers have fixed names, and so have the networks that are made on it. They are no hexadecimal numbers: Docker
// would take the name of a container that is not there for the beginning of another one's id.
const (
	slotsPerHost    = 4
	networksPerHost = 2
)

// steady are the networks that are there all the time.
var steady = []string{"red", "blue"}

// op is one thing that a user does.
type op struct {
	verb      string // run, stop, kill, start, rm, connect, disconnect, create, remove
	container string
	network   string
	addr      string // a static address, for run and connect
}

func (o op) String() string {
	return fmt.Sprintf("%s %s %s %s", o.verb, o.container, o.network, o.addr)
}

// round is a fault, and what users do on each host meanwhile.
type round struct {
	fault fault
	host  int
	ops   [hosts][]op
}

// plan is everything that will be done. It follows from the seed alone: what is done next never depends on how
// the last thing went, so that a seed replays. Only how hosts' operations meet each other in time differs.
type plan struct {
	rng *rand.Rand
	// The world as it would be if everything went well.
	containers [hosts]map[string]*slot
	networks   map[string]bool
}

type slot struct {
	running bool
	on      []string
}

func makePlan(seed uint64, ops int, kinds []fault) []round {
	p := &plan{rng: rand.New(rand.NewPCG(seed, 5)), networks: map[string]bool{}}
	for i := range p.containers {
		p.containers[i] = map[string]*slot{}
	}
	perRound := min(5, (ops+len(kinds)*hosts-1)/(len(kinds)*hosts)) // a short plan has one round of each kind
	var rounds []round
	var bag []fault // every kind strikes once before one strikes again
	for done := 0; done < ops || len(bag) > 0; done += hosts * perRound {
		if len(bag) == 0 {
			bag = slices.Clone(kinds)
			p.rng.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
		}
		r := round{fault: bag[0], host: p.rng.IntN(hosts)}
		bag = bag[1:]
		for range perRound {
			for h := range hosts {
				r.ops[h] = append(r.ops[h], p.next(h))
			}
		}
		rounds = append(rounds, r)
	}
	return rounds
}

// next draws what host h does next.
func (p *plan) next(h int) op {
	for {
		name := fmt.Sprintf("job%d", p.rng.IntN(slotsPerHost))
		own := fmt.Sprintf("h%dn%d", h+1, p.rng.IntN(networksPerHost))
		network := p.network()
		c, there := p.containers[h][name]
		switch roll := p.rng.IntN(100); {
		case roll < 12 && !p.networks[own]:
			p.networks[own] = true
			return op{verb: "create", network: own}
		case roll < 18 && p.networks[own] && !p.used(own):
			delete(p.networks, own)
			return op{verb: "remove", network: own}
		case !there:
			p.containers[h][name] = &slot{running: true, on: []string{network}}
			return op{verb: "run", container: name, network: network, addr: p.static(network)}
		case roll < 40:
			delete(p.containers[h], name)
			return op{verb: "rm", container: name}
		case roll < 60 && c.running:
			c.running = false
			return op{verb: []string{"stop", "kill"}[roll%2], container: name}
		case roll < 60:
			c.running = true
			return op{verb: "start", container: name}
		case roll < 80 && len(c.on) == 1 && c.on[0] != network:
			c.on = append(c.on, network)
			return op{verb: "connect", container: name, network: network, addr: p.static(network)}
		case roll < 95 && len(c.on) > 1:
			network = c.on[1]
			c.on = c.on[:1]
			return op{verb: "disconnect", container: name, network: network}
		}
	}
}

// network is one of those that are there, mostly one that always is.
func (p *plan) network() string {
	var made []string
	for name := range p.networks {
		made = append(made, name)
	}
	slices.Sort(made)
	if len(made) > 0 && p.rng.IntN(100) < 35 {
		return made[p.rng.IntN(len(made))]
	}
	return steady[p.rng.IntN(len(steady))]
}

func (p *plan) used(network string) bool {
	for _, host := range p.containers {
		for _, c := range host {
			if slices.Contains(c.on, network) {
				return true
			}
		}
	}
	return false
}

// static is sometimes an address that one asks for by name. There are few, so that hosts want the same.
func (p *plan) static(network string) string {
	if p.rng.IntN(100) >= 20 {
		return ""
	}
	for i, name := range steady {
		if name == network {
			return fmt.Sprintf("10.%d.0.%d", 61+i, 200+p.rng.IntN(4))
		}
	}
	return ""
}

func TestPlanFollowsFromItsSeed(t *testing.T) {
	kinds := faults()
	first := fmt.Sprint(describe(makePlan(7, 400, kinds)))
	if again := fmt.Sprint(describe(makePlan(7, 400, kinds))); again != first {
		t.Error("two plans of one seed differ")
	}
	if other := fmt.Sprint(describe(makePlan(8, 400, kinds))); other == first {
		t.Error("plans of two seeds are equal")
	}
	verbs, struck, n := map[string]int{}, map[string]int{}, 0
	for _, r := range makePlan(7, 200, kinds) {
		struck[r.fault.name]++
		for _, ops := range r.ops {
			for _, o := range ops {
				verbs[o.verb]++
				n++
				if o.addr != "" {
					verbs["static address"]++
				}
			}
		}
	}
	if n < 200 {
		t.Errorf("the plan has %d operations", n)
	}
	for _, f := range kinds {
		if struck[f.name] == 0 {
			t.Errorf("no fault of kind %s in the short plan", f.name)
		}
	}
	for _, verb := range []string{"run", "stop", "kill", "start", "rm", "connect", "disconnect", "create", "remove", "static address"} {
		if verbs[verb] == 0 {
			t.Errorf("no %s in the short plan", verb)
		}
	}
}

func describe(rounds []round) (lines []string) {
	for _, r := range rounds {
		lines = append(lines, fmt.Sprint(r.fault.name, r.host, r.ops))
	}
	return lines
}
