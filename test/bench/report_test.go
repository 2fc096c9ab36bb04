package bench

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/scale"
)

func sample() *Report {
	traffic := func(name string, near bool, bits, rate float64) *Traffic {
		return &Traffic{Name: name, Near: near, Bits: Series{bits, bits / 2, bits * 2}, Rate: Series{rate}}
	}
	return &Report{
		Opts:     Options{}.complete(),
		Traffic:  []*Traffic{traffic(nameKernel, false, 4e9, 5000), traffic(namePlain, false, 0.8e9, 6000), traffic(nameSwarm, false, 8e9, 10000)},
		Launches: []*Launch{{Name: nameKernel, Seconds: Series{1.75}}, {Name: nameBridge, Seconds: Series{1.5}}},
		Calls:    []*Calls{{Name: nameKernel, Attach: Series{10, 12, 90}}, {Name: nameOVS, Attach: Series{16}}},
		Reach:    []*Reach{{Name: nameKernel, Reply: Series{20, 201}}},
		Addresses: &Addresses{
			Allocations: []*Allocation{{Hosts: 1, Callers: 8, Spares: Handed{Rate: Series{50000}, P50: Series{20}, P99: Series{90}, PerTransaction: Series{400}},
				Each: Handed{Rate: Series{2000}}}},
			Used: []*Used{{100, Handed{P50: Series{10}, Rate: Series{1}, P99: Series{1}, PerTransaction: Series{9}}},
				{60000, Handed{P50: Series{20}, Rate: Series{1}, P99: Series{1}, PerTransaction: Series{9}}}},
		},
		Plugin: &Plugin{Rounds: 1, Size: 40, Packed: 15, Answer: Series{600}, Enable: Series{700}, Memory: []Part{{"socketplane", 30}}},
		Cluster: &Cluster{Rounds: 1, Span: 30 * time.Second, Member: Series{3000}, Vote: Series{9000}, Join: Series{1000},
			Idle: []Idle{{Role: "server", Agent: Idler{1, 30}, Consul: Idler{2, 90}, Packets: 20}}},
		Scale: &Scale{Figures: scale.Figures{
			Sizes: []*scale.Size{{Hosts: 10, Each: 100, Update: []float64{10, 12}, Attach: []float64{10}, UpdateBytes: 2048},
				{Hosts: 1000, Each: 100, Update: []float64{14, 40}, UpdateCPU: 4, Attach: []float64{15}, Memory: 149, Gaps: 1, Failed: map[string]string{"Inspect": "no"}}},
			Crowd:    &scale.Crowd{Endpoints: 20, AgentCPU: []float64{4, 5}, SwitchCPU: []float64{6, 6}, PlainCPU: []float64{5, 5}, Attach: []float64{10, 14}, Plain: []float64{10, 10}},
			Networks: &scale.Networks{Count: 2, Create: []float64{3, 5}, Attach: []float64{10, 12}, Plain: []float64{20, 22}, SwitchCPU: []float64{5, 6}, PlainCPU: []float64{7, 8}},
			Binds:    &scale.Binds{Hosts: 300, Seconds: 9, Start: 2, Reads: 26, Writes: 10, Plain: 7}}},
		Memory: &Memory{Name: nameKernel, Endpoints: 1000, Networks: 3, Holder: Resident{Now: 59}, Other: Resident{Now: 30}},
	}
}

func TestTargets(t *testing.T) {
	var got []string
	for _, target := range append(sample().Targets(), sample().Addresses.Targets()...) {
		verdict := "missed"
		if target.Met {
			verdict = "met"
		}
		got = append(got, target.Got+" "+target.Want+" "+verdict)
	}
	want := "12.0 ms ≤ 15 ms met, 16.0 ms ≤ 15 ms missed, 201 ms ≤ 200 ms missed, 5.0 times ≥ 4 times met, 59 MiB < 60 MiB met, " +
		"25 times ≥ 20 times met, 0.020 ms < 0.3 ms met, 9 ≥ 8 met, 2.00 times ≤ 1.5 times missed"
	if text := strings.Join(got, ", "); text != want {
		t.Errorf("targets:\n%s\nwant:\n%s", text, want)
	}
}

func TestPage(t *testing.T) {
	var out bytes.Buffer
	if err := sample().Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| SocketPlane, tunnel `kernel` | two hosts | 4.00 (2.00–8.00) | 5000 (5000–5000) | 200 |",
		"| throughput, two hosts | Swarm overlay | × 0.50 | – |",
		"| throughput, two hosts | plain OVS user-space VXLAN | × 5.00 | – |",
		"| 1 | 8 | 50000 (50000–50000) | 2000 (2000–2000) | × 25.00 | 20.0 (20.0–20.0) | 90.0 (90.0–90.0) | 400 (400–400) |",
		"| `docker run` | Docker bridge | +0.25 s | – |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	page := out.String()
	if again, err := sample().Addresses.Replace(page); err != nil || again != page {
		t.Errorf("the section of addresses written into its own page: %v\n%s", err, again)
	}
	if again, err := sample().Plugin.Replace(page); err != nil || again != page {
		t.Errorf("the plugin's section written into its own page: %v\n%s", err, again)
	}
	if again, err := sample().Cluster.Replace(page); err != nil || again != page {
		t.Errorf("the cluster's section written into its own page: %v\n%s", err, again)
	}
	if again, err := sample().Scale.Replace(page); err != nil || again != page {
		t.Errorf("the section of scale written into its own page: %v\n%s", err, again)
	}
	without := sample()
	without.Addresses, without.Plugin, without.Cluster, without.Scale = nil, nil, nil, nil
	var bare bytes.Buffer
	if err := without.Write(&bare); err != nil {
		t.Fatal(err)
	}
	again, err := sample().Addresses.Replace(bare.String())
	if err == nil {
		again, err = sample().Plugin.Replace(again)
	}
	if err == nil {
		again, err = sample().Cluster.Replace(again)
	}
	if err == nil {
		again, err = sample().Scale.Replace(again)
	}
	if err != nil || again != page {
		t.Errorf("sections written into a page without: %v\n%s", err, again)
	}
	if !strings.Contains(page, "| 1000 | 27.0, 40.0 | 4.0 | 0.0 | 15.0 | 149 | 0.00 | 0 | 0.0 | 0.0 | 1 | 0.00 | 0.00 | failed |") || !strings.Contains(page, "| 20 | 14.0 | 10.0 | 5.0 | 6.0 | 5.0 |") ||
		!strings.Contains(page, "| 2 | 5.0 | 12.0 | 22.0 | 6.0 | 8.0 |") || !strings.Contains(page, "10.0 that write for each host") {
		t.Errorf("rows of scale are missing:\n%s", page)
	}
	if strings.Contains(page, "one host |") {
		t.Error("the page compares what was not measured")
	}
}

// TestAddressesAreRead: what go test prints of test/addresses, of several rounds.
func TestAddressesAreRead(t *testing.T) {
	var a Addresses
	err := a.read(`goos: linux
BenchmarkAllocate/hosts-1/callers-8/spares-2    	   20000	     19072 ns/op	     52433 allocs/s	       833.3 allocs/txn	         3.402 p50-µs	        54.26 p99-µs
BenchmarkAllocate/hosts-1/callers-8/write-each-2    	   20000	     1907 ns/op	     960 allocs/s	         900.5 p50-µs	        5400 p99-µs
BenchmarkAllocate/hosts-1/callers-8/spares-2    	   20000	     19072 ns/op	     52435 allocs/s	       833.3 allocs/txn	         3.402 p50-µs	        54.26 p99-µs
BenchmarkUsed/used-60000    	   2000	     19072 ns/op	     50000 allocs/s	       100 allocs/txn	 12.5 first-ms	         4.5 p50-µs	        50 p99-µs
PASS
`)
	if err != nil || len(a.Allocations) != 1 || len(a.Used) != 1 {
		t.Fatalf("%v %+v", err, a)
	}
	l := a.Allocations[0]
	if l.Hosts != 1 || l.Callers != 8 || l.Spares.Rate.Median() != 52434 || l.Spares.PerTransaction.Max() != 833.3 || l.Each.P50.Median() != 900.5 {
		t.Errorf("%+v", l)
	}
	if u := a.Used[0]; u.Addresses != 60000 || u.P50.Median() != 4.5 || u.P99.Median() != 50 {
		t.Errorf("%+v", u)
	}
	if err := a.read("BenchmarkUsed/used-100-2  5  x ns/op\n"); err == nil {
		t.Error("a line that is no line is read")
	}
}

func TestScaleTargets(t *testing.T) {
	var missed []string
	for _, target := range sample().Scale.Targets() {
		if !target.Met {
			missed = append(missed, target.What+" "+target.Got)
		}
	}
	want := []string{"1000 hosts: another host's update until its flow is there, median, against 10 hosts 2.45 times", "1000 hosts: the same, p99 3.33 times",
		"1000 hosts: the agent's CPU for an update 4.00 ms", "1000 hosts: flows of live endpoints deleted by the restart 1.00 flows",
		"1000 hosts: `endpoint ls`, `network ls`, `network inspect`, the slowest failed",
		"20 endpoints on one host: CreateEndpoint + Join in the last tenth against plain add-port 1.40 times"}
	if !slices.Equal(missed, want) {
		t.Errorf("missed:\n%s\nwant:\n%s", strings.Join(missed, "\n"), strings.Join(want, "\n"))
	}
}
