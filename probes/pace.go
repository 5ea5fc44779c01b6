package probes

import (
	"context"
	"sync"
	"time"
)

// maxInFlight bounds the questions of one client that wait for their answers.
const maxInFlight = 200

// Pace puts questions at a steady pace until ctx ends: each client one an interval,
// to its endpoints in turn, whether or not earlier ones were answered. An outage
// is thus seen from its beginning to its end. It returns when every answer is in or
// given up, sorted as they ended; what ctx's end cuts short is not among them.
func Pace(ctx context.Context, asks []Ask, interval, timeout time.Duration) []Exchange {
	byClient := map[Client][]Ask{}
	for _, a := range asks {
		byClient[a.Client] = append(byClient[a.Client], a)
	}
	var mu sync.Mutex
	var all []Exchange
	var wg sync.WaitGroup
	// What is under way when the observation ends is still waited for.
	detached := context.WithoutCancel(ctx)
	for _, own := range byClient {
		wg.Go(func() {
			tick := time.NewTicker(interval)
			defer tick.Stop()
			slots := make(chan struct{}, maxInFlight)
			for i := 0; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				select {
				case slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
				wg.Go(func() {
					x := Exchange1(detached, own[i%len(own)], timeout)
					mu.Lock()
					all = append(all, x)
					mu.Unlock()
					<-slots
				})
			}
		})
	}
	wg.Wait()
	return all
}
