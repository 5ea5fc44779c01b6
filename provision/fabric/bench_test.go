package fabric

import (
	"io"
	"slices"
	"sync"
	"testing"
	"time"
)

// The aims (issue 2): at least 1 Gbit/s and at most 100 µs on two cores.

func BenchmarkTCPThroughput(b *testing.B) {
	l := newLab(b)
	listener, err := l.b.Listen("tcp", "192.168.56.51:80")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	received := make(chan int64, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			received <- 0
			return
		}
		n, _ := io.Copy(io.Discard, conn)
		received <- n
	}()
	conn, err := l.a.DialContext(within(b, 10*time.Second), "tcp", "192.168.56.51:80")
	if err != nil {
		b.Fatal(err)
	}
	chunk := make([]byte, 256<<10)
	b.SetBytes(int64(len(chunk)))
	b.ResetTimer()
	for range b.N {
		if _, err := conn.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	conn.Close()
	if n := <-received; n != int64(b.N*len(chunk)) {
		b.Fatalf("%d bytes received, %d sent", n, b.N*len(chunk))
	}
	b.ReportMetric(float64(b.N*len(chunk))*8/1e9/b.Elapsed().Seconds(), "Gbit/s")
}

func BenchmarkRoundTrip(b *testing.B) {
	l := newLab(b)
	listener, err := l.b.Listen("tcp", "192.168.56.51:80")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, _ = io.Copy(conn, conn)
		}
	}()
	conn, err := l.a.DialContext(within(b, 10*time.Second), "tcp", "192.168.56.51:80")
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	times := make([]time.Duration, 0, b.N)
	buf := make([]byte, 64)
	for b.Loop() {
		started := time.Now()
		if _, err := conn.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(started))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2])/1e3, "median-µs")
}

func BenchmarkSwitchForward(b *testing.B) {
	sw := NewSwitch("s")
	defer sw.Close()
	var wg sync.WaitGroup
	src := sw.Attach("src", func([][]byte) {})
	dst := sw.Attach("dst", func(frames [][]byte) { wg.Add(-len(frames)) })
	dst.Send([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5}) // so that it is known
	frame := append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, make([]byte, 1000)...)
	const window = queueLimit / 2 // never overflow the queue: a dropped frame would be no work
	b.ResetTimer()
	for i := range b.N {
		if i%window == 0 {
			wg.Wait()
		}
		wg.Add(1)
		src.Send(frame)
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
}
