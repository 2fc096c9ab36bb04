package netapi

import (
	"context"
	"time"
)

type (
	callerKey  struct{}
	arrivalKey struct{}
)

// WithCaller notes which process sent a request; 0 is one that can't be seen from here.
func WithCaller(ctx context.Context, pid int) context.Context {
	return context.WithValue(ctx, callerKey{}, pid)
}

// Caller is the process that sent the request, 0 if it is not known.
func Caller(ctx context.Context) int {
	pid, _ := ctx.Value(callerKey{}).(int)
	return pid
}

// WithArrival notes when a request came, which may be long before it is handled.
func WithArrival(ctx context.Context, at time.Time) context.Context {
	return context.WithValue(ctx, arrivalKey{}, at)
}

// Arrival is when the request came; now if that is not known.
func Arrival(ctx context.Context) time.Time {
	if at, ok := ctx.Value(arrivalKey{}).(time.Time); ok {
		return at
	}
	return time.Now()
}

// Carry makes ctx that of the request of from, with its caller and arrival, and with the deadline of ctx.
func Carry(ctx, from context.Context) context.Context {
	return WithArrival(WithCaller(ctx, Caller(from)), Arrival(from))
}
