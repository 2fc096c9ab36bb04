package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func TestCoreEveryPairPings(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 3*time.Minute)
	all := w.members(ctx, t)
	var g errgroup.Group
	for _, from := range all {
		for _, to := range all {
			g.Go(func() error {
				for _, addr := range []string{to.addr.String(), to.addr6.String()} {
					if _, err := from.exec(ctx, "ping", "-n", "-c", "5", "-i", "0.1", "-W", "2", addr); err != nil {
						return fmt.Errorf("%s to %s: %w", from.h.Name, to.h.Name, err)
					}
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestCoreBytesArrive sends random bytes by TCP both ways, over both IP versions, and compares their sums (LESSONS 10).
func TestCoreBytesArrive(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 4*time.Minute)
	all := w.members(ctx, t)
	a, b := all[0], all[1]
	size := 256 << 20
	if w.slow {
		size = 16 << 20
	}
	for _, way := range []struct {
		name     string
		from, to *container
		addr     string
		bytes    int
	}{
		{"there", a, b, a.addr.String(), size},
		{"back", b, a, b.addr.String(), size},
		{"there_ipv6", a, b, a.addr6.String(), size / 8},
		{"back_ipv6", b, a, b.addr6.String(), size / 8},
	} {
		t.Run(way.name, func(t *testing.T) {
			server := way.from.spawn(t, "labprobe", "serve", "-l", ":7000", "-n", strconv.Itoa(way.bytes),
				"-seed", strconv.FormatInt(time.Now().UnixNano(), 10), "-for", "3m")
			server.says(ctx, t, "sha256")
			var sent struct{ SHA256 string }
			if err := json.Unmarshal([]byte(server.text()), &sent); err != nil {
				t.Fatal(err)
			}
			out, err := way.to.exec(ctx, "labprobe", "fetch", "-from", net.JoinHostPort(way.addr, "7000"), "-sha256", sent.SHA256, "-for", "3m")
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Bytes   int
				Seconds float64
			}
			if err := json.Unmarshal([]byte(out), &got); err != nil || got.Bytes != way.bytes {
				t.Fatalf("%d bytes of %d: %v", got.Bytes, way.bytes, err)
			}
			t.Logf("%d MiB in %.1f s: %.2f Gbit/s", got.Bytes>>20, got.Seconds, float64(got.Bytes)*8/got.Seconds/1e9)
		})
	}
}

func TestCoreDatagramsArrive(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 2*time.Minute)
	all := w.members(ctx, t)
	for _, size := range []int{8, 1400, 1422, 9000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			echo := all[1].spawn(t, "labprobe", "udp-echo", "-for", "4m")
			echo.says(ctx, t, "listening")
			for _, addr := range []string{all[1].addr.String(), all[1].addr6.String()} {
				// One is sent after the other's answer, so no queue on the way is ever full; on a busy machine an answer takes long.
				out := all[0].must(ctx, t, "labprobe", "udp-ping", "-to", net.JoinHostPort(addr, "7001"), "-count", "50", "-size", strconv.Itoa(size), "-wait", "30s")
				if !strings.Contains(out, `"received":50`) {
					t.Errorf("to %s: %s", addr, out)
				}
			}
		})
	}
}

// TestCoreMTU: the largest packet passes unfragmented, one byte more is refused by the sender's own kernel (LESSONS 10).
func TestCoreMTU(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 2*time.Minute)
	all := w.members(ctx, t)
	// The underlay's 1500 less 50 for VXLAN over IPv4.
	const mtu = 1450
	for _, to := range all[1:] {
		for addr, headers := range map[string]int{to.addr.String(): 28, to.addr6.String(): 48} {
			full := strconv.Itoa(mtu - headers)
			all[0].must(ctx, t, "ping", "-n", "-M", "do", "-c", "3", "-i", "0.1", "-W", "2", "-s", full, addr)
			over := strconv.Itoa(mtu - headers + 1)
			out, err := all[0].exec(ctx, "ping", "-n", "-M", "do", "-c", "1", "-W", "2", "-s", over, addr)
			text := fmt.Sprint(out, err)
			if err == nil || !strings.Contains(strings.ToLower(text), "message too long") || !strings.Contains(text, "mtu") ||
				!strings.Contains(text, strconv.Itoa(mtu)) {
				t.Errorf("one byte more to %s: %v", addr, text)
			}
		}
	}
	for _, c := range all {
		if out := c.must(ctx, t, "cat", "/sys/class/net/eth0/mtu"); strings.TrimSpace(out) != strconv.Itoa(mtu) {
			t.Errorf("MTU on %s: %s", c.h.Name, out)
		}
	}
}
