package bench

import (
	"bytes"
	"strings"
	"testing"
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
		Memory:   &Memory{Name: nameKernel, Endpoints: 1000, Networks: 3, Holder: Resident{Now: 59}, Other: Resident{Now: 30}},
	}
}

func TestTargets(t *testing.T) {
	var got []string
	for _, target := range sample().Targets() {
		verdict := "missed"
		if target.Met {
			verdict = "met"
		}
		got = append(got, target.Got+" "+target.Want+" "+verdict)
	}
	want := "12.0 ms ≤ 15 ms met, 16.0 ms ≤ 15 ms missed, 201 ms ≤ 200 ms missed, 5.0 times ≥ 4 times met, 59 MiB < 60 MiB met"
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
		"| `docker run` | Docker bridge | +0.25 s | – |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(out.String(), "one host |") {
		t.Error("the page compares what was not measured")
	}
}
