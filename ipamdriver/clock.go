package ipamdriver

import (
	"time"

	"github.com/socketplane/socketplane/internal/ipalloc"
)

// clock gives the moments of ledgers. They begin with the time of day, so that they survive the process, as journals do, and
// go on with what the machine counts: a time of day that is set, an hour on and back again, would have addresses rest for an hour.
type clock struct{ began time.Time }

// now is the present moment.
func (c clock) now() ipalloc.Moment {
	return ipalloc.Moment(c.began.UnixMilli() + time.Since(c.began).Milliseconds())
}
