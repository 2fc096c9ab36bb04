package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// path is a way from a client to a server, both in containers.
type path struct {
	name string
	// near says that both are on one host.
	near   bool
	host   *lab.Host
	client string
	server string
}

// pathPatience bounds what is not measured: until the server answers, and beyond a measurement's own time.
const pathPatience = 30 * time.Second

// await waits until the server answers.
func (p path) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pathPatience)
	defer cancel()
	var last error
	err := testenv.Poll(ctx, 100*time.Millisecond, func() bool {
		_, last = p.rate(ctx, 10*time.Millisecond)
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("%s: the server does not answer: %w: %w", p.name, err, last)
	}
	return nil
}

// throughput is what one TCP stream carries, in bits per second.
func (p path) throughput(ctx context.Context, length time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, length+pathPatience)
	defer cancel()
	seconds := max(1, int(length.Round(time.Second).Seconds()))
	out, err := p.host.Docker(ctx, "exec", p.client, "iperf3", "-c", p.server, "-t", fmt.Sprint(seconds), "-J")
	if err != nil {
		return 0, err
	}
	var result struct {
		End struct {
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		return 0, fmt.Errorf("iperf3: %w", err)
	}
	return result.End.Received.Bits, nil
}

// rate is how often per second one byte goes to the server and comes back, over one TCP connection.
func (p path) rate(ctx context.Context, length time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, length+pathPatience)
	defer cancel()
	out, err := p.host.Docker(ctx, "exec", p.client, "labprobe", "rr", "-to", p.server+":7003", "-for", length.String())
	if err != nil {
		return 0, err
	}
	var result struct{ Transactions, Seconds float64 }
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		return 0, fmt.Errorf("labprobe rr: %w", err)
	}
	return result.Transactions / result.Seconds, nil
}

// launch is a `docker run` on a network.
type launch struct {
	name    string
	host    *lab.Host
	network string
}

func (l launch) run(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	start := time.Now()
	_, err := l.host.Docker(ctx, "run", "--rm", "--network", l.network, lab.ImageName, "true")
	return time.Since(start), err
}
