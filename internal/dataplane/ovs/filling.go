package ovs

import (
	"context"
	"fmt"

	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// fillPiece is how many flows a replay sends at once, some 0.5 KiB each in memory. Another piece is computed meanwhile.
const fillPiece = 8 << 10

// filling is the part of a replay that is yet to be sent.
type filling struct {
	plane   *Plane
	pieces  map[*network][]openflow.Flow
	size    int
	sending chan error // of the piece that is under way, nil if none is
}

// add has flows of a network sent when there are enough. Its error may be that of flows that were added before.
func (f *filling) add(ctx context.Context, n *network, flows []openflow.Flow) error {
	f.plane.stamp(flows)
	f.pieces[n] = append(f.pieces[n], flows...)
	if f.size += len(flows); f.size < fillPiece {
		return nil
	}
	return f.begin(ctx)
}

// flush sends what is left, and waits until the switch has all.
func (f *filling) flush(ctx context.Context) error {
	if err := f.begin(ctx); err != nil {
		return err
	}
	return f.wait()
}

// begin sends a piece when the former one is sent.
func (f *filling) begin(ctx context.Context) error {
	if err := f.wait(); err != nil {
		return err
	}
	sending, pieces := make(chan error, 1), f.pieces
	f.pieces, f.size, f.sending = map[*network][]openflow.Flow{}, 0, sending
	go func() { sending <- f.plane.fill(ctx, pieces) }()
	return nil
}

// wait returns when nothing is being sent.
func (f *filling) wait() error {
	if f.sending == nil {
		return nil
	}
	err := <-f.sending
	f.sending = nil
	return err
}

// fill sends flows of several networks. When the switch refuses one, each network is given its own, so that it is trouble of one.
func (p *Plane) fill(ctx context.Context, pieces map[*network][]openflow.Flow) error {
	var all []openflow.Flow
	for _, flows := range pieces {
		all = append(all, flows...)
	}
	err := openflow.Fill(ctx, p.sw.MgmtPath(), all)
	if isRefusal(err) {
		for n, flows := range pieces {
			if err = p.give(ctx, n, openflow.Change{Add: flows}); err != nil && !isRefusal(err) {
				break
			}
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("%w: replay %d flows: %w", ErrNotReady, len(all), err)
	}
	return nil
}
