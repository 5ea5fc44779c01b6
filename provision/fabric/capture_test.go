package fabric

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

func TestCapture(t *testing.T) {
	l := newLab(t)
	serveUDP(t, l.b, "192.168.56.51:53")
	path := filepath.Join(t.TempDir(), "x.pcapng")
	c, err := StartCapture(path, CaptureOptions{}, l.site, l.netA)
	if err != nil {
		t.Fatal(err)
	}
	late, err := NewVantage(l.site, VantageConfig{Name: "late", Addrs: prefixes("192.168.56.60/24")})
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	for _, v := range []*Vantage{l.outA, late} {
		if _, _, err := ask(t, v, "udp", "192.168.56.51:53"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file has its name before it is complete")
	}
	stats, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapgo.NewNgReader(file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	frames := map[string]int{} // interface -> DNS-port datagrams
	for n := uint64(0); ; n++ {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			if n != stats.Frames {
				t.Errorf("%d frames in the file, %d counted", n, stats.Frames)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(info.Timestamp) > time.Minute {
			t.Fatalf("time stamp %s", info.Timestamp)
		}
		i, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		if gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeUDP) != nil {
			frames[i.Name]++
		}
	}
	want := map[string]int{"net-a/out-a": 2, "net-a/router": 2, "site/router": 2, "site/b": 4, "site/late": 2}
	for name, n := range want {
		if frames[name] != n {
			t.Errorf("%s: %d datagrams, want %d (question and answer of each client that passes there)", name, frames[name], n)
		}
	}
	if got := r.NInterfaces(); got < 6 {
		t.Errorf("%d interfaces, want one for each port", got)
	}
}

func TestCaptureEndsAtItsLimit(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	p := sw.Attach("p", func([][]byte) {})
	c, err := StartCapture(filepath.Join(t.TempDir(), "x.pcapng"), CaptureOptions{MaxBytes: 100}, sw)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		p.Send(make([]byte, 60))
	}
	stats, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if stats.Frames != 1 || !stats.Truncated {
		t.Errorf("got %+v, want one frame and truncated", stats)
	}
}

// readCapture returns the interfaces and, for each frame in the file's order, the
// name of its interface and its content.
func readCapture(t testing.TB, path string) (interfaces []string, at []string, frames [][]byte, times []time.Time) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapgo.NewNgReader(file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	name := func(i int) string {
		described, err := r.Interface(i)
		if err != nil {
			t.Fatal(err)
		}
		return described.Name
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		at, frames, times = append(at, name(info.InterfaceIndex)), append(frames, data), append(times, info.Timestamp)
	}
	for i := range r.NInterfaces() {
		interfaces = append(interfaces, name(i))
	}
	return interfaces, at, frames, times
}

func TestCaptureShowsWhatALinkLost(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	got := make(chan struct{}, 10)
	receive := func(frames [][]byte) {
		for range frames {
			got <- struct{}{}
		}
	}
	src, near, far := sw.Attach("src", receive), sw.Attach("near", receive), sw.Attach("far", receive)
	path := filepath.Join(t.TempDir(), "x.pcapng")
	c, err := StartCapture(path, CaptureOptions{}, sw)
	if err != nil {
		t.Fatal(err)
	}
	sw.Attach("quiet", func([][]byte) {}).Close()
	frame := func(n byte) []byte {
		return []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, n}
	}
	far.SetImpairment(ToDevice, Impairment{Cut: true})
	src.Send(frame(1)) // lost on its way out to far
	<-got
	src.SetImpairment(FromDevice, Impairment{Cut: true})
	src.Send(frame(2)) // lost on its way in
	stats, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.Stop(); again != stats || err != nil {
		t.Errorf("the second Stop: %+v, %v", again, err)
	}
	near.Send(frame(3)) // after the end
	interfaces, at, frames, times := readCapture(t, path)
	if want := []string{"s/src", "s/near", "s/far", "s/quiet"}; !slices.Equal(interfaces, want) {
		t.Errorf("interfaces %v, want %v", interfaces, want)
	}
	if want := []string{"s/src", "s/near", "s/src"}; !slices.Equal(at, want) {
		t.Errorf("recorded at %v, want %v", at, want)
	}
	for i, n := range []byte{1, 1, 2} {
		if i < len(frames) && !slices.Equal(frames[i], frame(n)) {
			t.Errorf("frame %d: %x", i, frames[i])
		}
	}
	if !slices.IsSortedFunc(times, time.Time.Compare) || times[0].Nanosecond()%1000 == 0 && times[1].Nanosecond()%1000 == 0 && times[2].Nanosecond()%1000 == 0 {
		t.Errorf("time stamps %v, want them in order and in nanoseconds", times)
	}
}

// A device may answer before the sender's goroutine goes on: the capture must not
// show the answer before the question.
func TestCaptureKeepsCauseBeforeEffect(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	question := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, 1}
	answer := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, 2}
	var server *Port
	ready := make(chan struct{})
	done := make(chan struct{}, 1)
	server = sw.Attach("server", func(frames [][]byte) {
		<-ready
		for range frames {
			server.Send(answer)
		}
	})
	close(ready)
	client := sw.Attach("client", func(frames [][]byte) { done <- struct{}{} })
	path := filepath.Join(t.TempDir(), "x.pcapng")
	c, err := StartCapture(path, CaptureOptions{}, sw)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		client.Send(question)
		<-done
	}
	if _, err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	_, at, frames, times := readCapture(t, path)
	if !slices.IsSortedFunc(times, time.Time.Compare) {
		t.Error("the time stamps are not in order")
	}
	for i := 0; i+3 < len(at); i += 4 {
		if want := []string{"s/client", "s/server", "s/server", "s/client"}; !slices.Equal(at[i:i+4], want) || frames[i][14] != 1 || frames[i+3][14] != 2 {
			t.Fatalf("exchange %d was recorded at %v, want %v", i/4, at[i:i+4], want)
		}
	}
	if len(at) != 4000 {
		t.Errorf("%d records, want 4000", len(at))
	}
}

func TestCaptureOfNothingIsReadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pcapng")
	c, err := StartCapture(path, CaptureOptions{}, NewSwitch("s"))
	if err != nil {
		t.Fatal(err)
	}
	if stats, err := c.Stop(); err != nil || stats != (CaptureStats{}) {
		t.Fatalf("%+v, %v", stats, err)
	}
	if interfaces, at, _, _ := readCapture(t, path); !slices.Equal(interfaces, []string{"s"}) || len(at) != 0 {
		t.Errorf("interfaces %v, %d frames", interfaces, len(at))
	}
}

func TestCaptureCountsWhatItLost(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	p := sw.Attach("p", func([][]byte) {})
	path := filepath.Join(t.TempDir(), "x.pcapng")
	c, err := StartCapture(path, CaptureOptions{Queue: 1}, sw)
	if err != nil {
		t.Fatal(err)
	}
	const sent = 20000
	for range sent {
		p.Send(make([]byte, 60))
	}
	stats, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if stats.Frames+stats.Lost != sent || stats.Lost == 0 {
		t.Errorf("%d recorded and %d lost of %d", stats.Frames, stats.Lost, sent)
	}
	if _, at, _, _ := readCapture(t, path); uint64(len(at)) != stats.Frames {
		t.Errorf("%d frames in the file, %d counted", len(at), stats.Frames)
	}
}

func TestCaptureThatCannotStart(t *testing.T) {
	if _, err := StartCapture(filepath.Join(t.TempDir(), "none", "x.pcapng"), CaptureOptions{}, NewSwitch("s")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such directory: %v", err)
	}
	if _, err := StartCapture(filepath.Join(t.TempDir(), "x.pcapng"), CaptureOptions{}); err == nil {
		t.Error("a capture of no switch was started")
	}
}
