package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// rrServe answers each byte with a byte, as netperf's TCP_RR does with -r 1,1.
func rrServe(fs *flag.FlagSet) func(io.Writer) error {
	listen := fs.String("l", ":7003", "address to listen on")
	limit := deadlineFlag(fs, time.Minute)
	return func(out io.Writer) error {
		l, err := net.Listen("tcp", *listen)
		if err != nil {
			return err
		}
		if err := printJSON(out, map[string]any{"listening": l.Addr().String()}); err != nil {
			return err
		}
		time.AfterFunc(*limit, func() { l.Close() })
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			if err != nil {
				return err
			}
			go func() {
				// How it ended is reported by the client.
				_ = blocking(conn, *limit, func(fd int) error {
					one := make([]byte, 1)
					for {
						if err := again(unix.Read, fd, one); err != nil {
							return err
						}
						if err := again(unix.Write, fd, one); err != nil {
							return err
						}
					}
				})
			}()
		}
	}
}

func rr(fs *flag.FlagSet) func(io.Writer) error {
	to := fs.String("to", "", "address of a `labprobe rr-serve`")
	limit := deadlineFlag(fs, time.Second)
	return func(out io.Writer) error {
		conn, err := net.DialTimeout("tcp", *to, 5*time.Second)
		if err != nil {
			return err
		}
		var took []time.Duration
		var total time.Duration
		err = blocking(conn, 5*time.Second, func(fd int) error {
			one := []byte{1}
			start := time.Now()
			for last := start; total < *limit; {
				if err := errors.Join(again(unix.Write, fd, one), again(unix.Read, fd, one)); err != nil {
					return fmt.Errorf("after %d answers: %w", len(took), err)
				}
				now := time.Now()
				took = append(took, now.Sub(last))
				last, total = now, now.Sub(start)
			}
			return nil
		})
		if err != nil {
			return err
		}
		slices.Sort(took)
		at := func(share float64) float64 {
			return float64(took[int(share*float64(len(took)-1))].Nanoseconds()) / 1000
		}
		return printJSON(out, map[string]any{
			"transactions": len(took), "seconds": total.Seconds(), "p50_us": at(0.5), "p99_us": at(0.99),
		})
	}
}

// again reads or writes one byte. Go's runtime interrupts threads by signals, and a socket with a time limit does not resume
// by itself then (signal(7)).
func again(do func(int, []byte) (int, error), fd int, one []byte) error {
	for {
		switch n, err := do(fd, one); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n != 1:
			return io.ErrUnexpectedEOF
		default:
			return nil
		}
	}
}

// blocking runs f with the connection's socket in blocking mode: Go's poller would double the system calls of each byte. A
// single call of f waits at most for the patience.
func blocking(conn net.Conn, patience time.Duration, f func(fd int) error) error {
	defer conn.Close()
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	defer file.Close()
	fd := int(file.Fd()) // Fd makes the socket blocking.
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return err
	}
	return errors.Join(unix.SetNonblock(fd, false), f(fd))
}
