package retry

import (
	"context"
	"time"
)

// Loop is Pause and Trouble of one loop that asks again and again, such as a watch: an answer is no success while the next question fails again at
// once. It is not safe for concurrent use.
type Loop struct {
	Pause
	Trouble

	began time.Time // of the answers since the last failure; zero while there is none
}

// Works notes an answer. The failure before counts as over when answers have come for Pause.Steady.
func (l *Loop) Works() {
	if l.began.IsZero() {
		l.began = time.Now()
	}
	if time.Since(l.began) >= l.Pause.Steady {
		l.Trouble.Note(nil)
		l.Reset()
	}
}

// Fails notes a failure, and waits until the next attempt or until ctx ends, which is no failure.
func (l *Loop) Fails(ctx context.Context, err error, attrs ...any) {
	if ctx.Err() != nil {
		return
	}
	var worked time.Duration
	if !l.began.IsZero() {
		worked = time.Since(l.began)
	}
	if worked > 0 && worked >= l.Pause.Steady {
		l.Trouble.Note(nil)
	}
	l.began = time.Time{}
	l.Trouble.Note(err, attrs...)
	l.Wait(ctx, worked)
}

// Follow asks a watch again and again until ctx ends. The watch returns when something has changed after since, and the index of that; since
// is 0 at first and after an error, which is noted and waited after as Fails does.
func (l *Loop) Follow(ctx context.Context, watch func(ctx context.Context, since uint64) (uint64, error), attrs ...any) {
	for index := uint64(0); ctx.Err() == nil; {
		next, err := watch(ctx, index)
		if err != nil {
			index = 0 // the store may be another one
			l.Fails(ctx, err, attrs...)
			continue
		}
		index = next
		l.Works()
	}
}
