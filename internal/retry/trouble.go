package retry

import (
	"context"
	"log/slog"
	"time"
)

// Times of reminders of a failure that lasts: the first one, and the longest pause between two.
const (
	remindFirst = 10 * time.Minute
	remindLast  = time.Hour
)

// maxCauses bounds the lines about one failure whose text is another one at each attempt, as with a port number in it.
const maxCauses = 8

// Trouble logs a failure of one loop: when it begins, for each cause that it did not have before, rarely while it lasts (with how long that is),
// and when it is over. It is not safe for concurrent use.
type Trouble struct {
	Logger *slog.Logger
	// Level is that of the failure; its zero value is slog.LevelInfo. The end is logged as info.
	Level slog.Level
	// Text is what fails, Over that it does not any more; with an empty Over the end is not logged.
	Text, Over string
	// Steady is for how long attempts must work for the failure to be over: one that comes and goes is one failure. 0 means at once.
	Steady time.Duration

	since  time.Time // zero while there is none
	works  time.Time // since when attempts work, while there is a failure
	causes map[string]bool
	due    time.Time // of the next reminder
	pause  time.Duration
}

// Note notes the result of an attempt; attrs are logged beside it.
func (t *Trouble) Note(err error, attrs ...any) {
	now := time.Now()
	if !t.since.IsZero() {
		if t.works.IsZero() && err == nil {
			t.works = now
		}
		if !t.works.IsZero() && now.Sub(t.works) >= t.Steady {
			t.end(attrs)
		}
	}
	if err != nil {
		t.works = time.Time{}
		t.fail(now, err, attrs)
	}
}

func (t *Trouble) end(attrs []any) {
	if t.Over != "" {
		t.Logger.Info(t.Over, append([]any{"lasted", t.works.Sub(t.since).Round(time.Second)}, attrs...)...)
	}
	t.since, t.works, t.causes = time.Time{}, time.Time{}, nil
}

func (t *Trouble) fail(now time.Time, err error, attrs []any) {
	switch {
	case t.since.IsZero():
		t.since, t.causes, t.pause = now, map[string]bool{err.Error(): true}, remindFirst
		t.due = now.Add(t.pause)
		t.log(err, attrs)
	case !t.causes[err.Error()] && len(t.causes) < maxCauses:
		t.causes[err.Error()] = true
		t.log(err, append([]any{"since", t.since.UTC().Format(time.RFC3339)}, attrs...))
	case !now.Before(t.due):
		t.pause = min(2*t.pause, remindLast)
		t.due = now.Add(t.pause)
		t.log(err, append([]any{"lasts", now.Sub(t.since).Round(time.Second)}, attrs...))
	}
}

func (t *Trouble) log(err error, attrs []any) {
	t.Logger.Log(context.Background(), t.Level, t.Text, append([]any{"err", err}, attrs...)...)
}
