package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoClock says that there is no way to ask for a clock: ICMPv6 has none.
var ErrNoClock = errors.New("only IPv4 hosts can be asked for their time")

// Parts of an ICMP timestamp (RFC 792): 20 bytes, with three times of day in milliseconds since midnight UT.
const (
	timestampRequest, timestampReply = 13, 14
	timestampLen                     = 20
	timestampReceived                = 12 // where the time is at which it was received there
	timestampOdd                     = 1 << 31
	day                              = 24 * time.Hour
)

// Clock asks a host for its time of day, and says how much its clock is ahead of this host's, give or take half of the way there and
// back; whole days are not seen. It needs CAP_NET_RAW, and the other host's kernel answers, whatever runs there.
func Clock(ctx context.Context, to netip.Addr) (time.Duration, error) {
	if !to.Is4() {
		return 0, fmt.Errorf("clock of %s: %w", to, ErrNoClock)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "ip4:icmp", to.String())
	if err != nil {
		return 0, fmt.Errorf("clock of %s: %w", to, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) }) // ends the read below
	defer stop()
	began := time.Now()
	msg := make([]byte, timestampLen)
	msg[0] = timestampRequest
	binary.BigEndian.PutUint16(msg[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint16(msg[6:], uint16(began.UnixNano())) // a number of its own
	binary.BigEndian.PutUint32(msg[8:], uint32(timeOfDay(began).Milliseconds()))
	binary.BigEndian.PutUint16(msg[2:], checksum(msg))
	if _, err := conn.Write(msg); err != nil {
		return 0, fmt.Errorf("clock of %s: %w", to, err)
	}
	buf := make([]byte, 1<<10)
	for {
		n, _, err := conn.(*net.IPConn).ReadFrom(buf)
		took := time.Since(began)
		if err != nil {
			if ctx.Err() != nil {
				err = ErrNoAnswer
			}
			return 0, fmt.Errorf("clock of %s: %w", to, err)
		}
		if got := buf[:n]; n >= timestampLen && got[0] == timestampReply && string(got[4:12]) == string(msg[4:12]) {
			stamp := binary.BigEndian.Uint32(got[timestampReceived:])
			if stamp&timestampOdd != 0 {
				return 0, fmt.Errorf("clock of %s: it tells no time of day", to)
			}
			return ahead(began.Add(took/2), stamp), nil
		}
	}
}

// Synced says whether the kernel holds this host's clock for synchronised. It does where the program that keeps the clock tells it so, as
// systemd-timesyncd and ntpd do, and chronyd with rtcsync.
func Synced() (bool, error) {
	var t unix.Timex // no modes: it is only read
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, fmt.Errorf("adjtimex: %w", err)
	}
	return t.Status&unix.STA_UNSYNC == 0, nil
}

// ahead is how much a clock that showed stamp is ahead of one that showed now, the shorter way round midnight.
func ahead(now time.Time, stamp uint32) time.Duration {
	diff := (time.Duration(stamp)*time.Millisecond - timeOfDay(now)) % day
	switch {
	case diff > day/2:
		diff -= day
	case diff < -day/2:
		diff += day
	}
	return diff.Round(time.Millisecond)
}

// timeOfDay is the time since midnight UT.
func timeOfDay(at time.Time) time.Duration { return at.Sub(at.UTC().Truncate(day)) }
