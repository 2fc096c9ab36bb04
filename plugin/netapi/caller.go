package netapi

import "context"

type callerKey struct{}

// WithCaller notes which process sent a request; 0 is one that can't be seen from here.
func WithCaller(ctx context.Context, pid int) context.Context {
	return context.WithValue(ctx, callerKey{}, pid)
}

// Caller is the process that sent the request, 0 if it is not known.
func Caller(ctx context.Context) int {
	pid, _ := ctx.Value(callerKey{}).(int)
	return pid
}
