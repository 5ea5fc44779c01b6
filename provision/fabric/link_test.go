package fabric

import (
	"testing"
	"time"
)

func TestACutIsOneWay(t *testing.T) {
	l := newLab(t)
	ping := func() error {
		_, err := l.a.Ping(within(t, 200*time.Millisecond), l.b.Addr4())
		return err
	}
	if err := ping(); err != nil {
		t.Fatal(err)
	}
	count := l.b.Port()
	before := count.Stats().ToFrames
	l.b.Port().SetImpairment(FromDevice, Impairment{Cut: true})
	if err := ping(); err == nil {
		t.Error("an answer came across a cut link")
	}
	if count.Stats().ToFrames == before {
		t.Error("the request did not arrive either: the cut is not one-way")
	}
	if count.Stats().DropCut == 0 {
		t.Error("the answer that was cut is not counted")
	}
	l.b.Port().SetImpairment(FromDevice, Impairment{})
	if err := ping(); err != nil {
		t.Errorf("after the cut was mended: %v", err)
	}
}

func TestLossAndDelay(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	got := make(chan byte, 10000)
	dst := sw.Attach("dst", func(frames [][]byte) {
		for _, f := range frames {
			got <- f[14]
		}
	})
	src := sw.Attach("src", func([][]byte) {})
	frame := func(n byte) []byte {
		return append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, n)
	}

	dst.SeedLoss(1)
	dst.SetImpairment(ToDevice, Impairment{Loss: 0.3})
	const sent = 2000
	for range sent {
		src.Send(frame(0))
	}
	lost := dst.Stats().DropLoss
	if lost < sent*25/100 || lost > sent*35/100 {
		t.Errorf("%d of %d lost, want about 30 %%", lost, sent)
	}
	for range sent - int(lost) {
		<-got
	}

	const delay = 50 * time.Millisecond
	dst.SetImpairment(ToDevice, Impairment{Delay: delay})
	started := time.Now()
	for n := range byte(100) {
		src.Send(frame(n))
		if n == 50 {
			// Frames that need not wait any more must not overtake.
			dst.SetImpairment(ToDevice, Impairment{})
		}
	}
	for n := range byte(100) {
		if f := <-got; f != n {
			t.Fatalf("frame %d came in place of %d", f, n)
		}
	}
	if took := time.Since(started); took < delay {
		t.Errorf("all frames came after %s, want at least %s", took, delay)
	}
}

func TestDelayRaisesTheRoundTrip(t *testing.T) {
	l := newLab(t)
	if _, err := l.a.Ping(within(t, time.Second), l.b.Addr4()); err != nil { // also resolves the address
		t.Fatal(err)
	}
	l.b.Port().SetImpairment(ToDevice, Impairment{Delay: 30 * time.Millisecond})
	l.b.Port().SetImpairment(FromDevice, Impairment{Delay: 20 * time.Millisecond})
	rtt, err := l.a.Ping(within(t, time.Second), l.b.Addr4())
	if err != nil {
		t.Fatal(err)
	}
	if rtt < 50*time.Millisecond {
		t.Errorf("round trip %s, want at least the links' 50ms", rtt)
	}
}

func TestFilter(t *testing.T) {
	l := newLab(t)
	serveTCP(t, l.b, "192.168.56.51:80")
	p := l.router.Port(l.netA)
	p.SetFilter(FromDevice, func(f []byte) bool { return etherType(f) == typeARP })
	if _, err := l.outA.Ping(within(t, 100*time.Millisecond), l.b.Addr4()); err == nil {
		t.Error("a filtered answer came through")
	}
	p.SetFilter(FromDevice, nil)
	if _, err := l.outA.Ping(within(t, 5*time.Second), l.b.Addr4()); err != nil {
		t.Error(err)
	}
}
