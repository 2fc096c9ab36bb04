package openflow

import (
	"context"
	"errors"
	"math"
	"sync"
)

// Open vSwitch reads at most 50 messages of a connection in each turn of its main loop (ofproto/connmgr.c, ofconn_run), and
// a turn takes the longer the more ports it has in user space. So many flows go by several connections.
const (
	fillConns = 32   // at most
	fillEach  = 1000 // flows that are worth a connection
)

// Fill adds many flows to a bridge, as Apply does, by as many connections of its own to the socket at path as pay. Unlike Apply's
// flows they come into force in several steps and in no order: it is for a switch that has none yet, or has those of before. When
// it fails, some may be there.
func Fill(ctx context.Context, path string, flows []Flow) error {
	conns := min(fillConns, int(math.Ceil(float64(len(flows))/fillEach)))
	errs := make([]error, conns)
	var all sync.WaitGroup
	for i := range conns {
		part := flows[i*len(flows)/conns : (i+1)*len(flows)/conns]
		all.Go(func() { errs[i] = fill(ctx, path, part) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func fill(ctx context.Context, path string, flows []Flow) error {
	c, err := Dial(ctx, path)
	if err != nil {
		return err
	}
	return errors.Join(c.Apply(ctx, Change{Add: flows}), c.Close())
}
