package recipe_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// head begins a file with one service; its keys follow, four blanks deep.
const head = "plugin: hive_services\nservices:\n  web:\n    image: nginx\n"

// full is as much text as is read, made of head, what piece gives again and again,
// and tail.
func full(head string, piece func(i int) string, tail string) string {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; b.Len() < 10<<20-2000; i++ {
		b.WriteString(piece(i))
	}
	return b.String() + tail
}

func again(piece string) func(int) string { return func(int) string { return piece } }

func numbered(piece string) func(int) string {
	return func(i int) string { return fmt.Sprintf(piece, i) }
}

// Files of 10 MB are read, or refused for what they are, in bounded time. The
// bound is one on the processor's time, and generous: a second or two is usual.
func TestBounds(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("takes seconds, and minutes with the race detector")
	}
	bomb := func(levels int) string {
		var b strings.Builder
		b.WriteString(head + "    environment: &a0 {A: x}\n")
		for i := range levels {
			fmt.Fprintf(&b, "    x%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
		}
		return b.String()
	}
	merge := "{<<: [" + strings.TrimSuffix(strings.Repeat("*e, ", 100), ", ") + "]}\n"
	merges := strings.Replace(keys(3000), "environment:", "environment: &e", 1) + "    labels: " + merge + "    hosts: " + merge
	const marks, deep = "more than 1600000 lines and YAML indicators", "nested more than 64 deep"
	const (
		list   = head + "    dns:\n"
		flow   = head + "    dns: ["
		listed = "plugin: hive_services\nservices:\n"
	)
	tests := []struct{ name, src, want string }{
		{"services", full(listed, service, ""), ""},
		{"size", full(head, again("# x\n"), strings.Repeat("# ", 1001)), "more than 10485760 bytes"},
		{"alias bomb", bomb(8), "repeat more than 250000 values"},
		{"merge bomb", merges, "repeat more than 250000 values"},
		{"aliases of a long text", head + "    user: &a " + strings.Repeat("a", 5<<20) + "\n    dns:\n" + strings.Repeat("    - *a\n", 1000), "repeat more than 250000 values"},
		{"aliases", full(head+"    user: &a x\n    dns: [", again("*a ,     "), "]"), marks},
		{"anchors", full(flow, numbered("&a%d x,    "), "]"), ""},
		{"anchors of nothing", full(flow, again("&a "), ""), marks},
		{"dense list", full(flow, again("a,"), "]"), marks},
		{"list of maps", full(flow, again("aaaaaaaa: bbbbbbbbb,"), "]"), "that is problem 1000; no more are looked for"},
		{"flow depth", full(flow, again("["), ""), marks},
		{"little flow depth", flow + strings.Repeat("[", 100_000), deep},
		{"little flow map depth", flow + strings.Repeat("{a: ", 10_000), deep},
		{"little dashes", strings.Repeat("- ", 100_000), deep},
		{"little question marks", strings.Repeat("? ", 100_000), deep},
		{"keys", full(head, numbered("    a%d: x\n"), ""), "that is problem 1000; no more are looked for"},
		{"comments", full(list, again("    # xxxxxxxxxxxxxxxxxxx\n    - a\n"), ""), ""},
		{"blank lines", full(head+"    user: |\n", again("\n"), ""), marks},
		{"quotes", full("", again("'aaaaaaaaaaa' "), ""), "not YAML: did not find expected <document start>"},
		{"long quoted text", full(head+"    user: \"", again("a"), ""), "f:5:11: not YAML: while scanning a quoted scalar: found unexpected end of stream"},
		{"words", full(head+"    entrypoint: ", again("a "), ""), ""},
		{"documents", full("", again("---\naaaaaaaaaaaaaaaaaaaaa: b\n"), ""), "f:3:1: not YAML: a second document"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := processorTime(t)
			r, problems := recipe.ParsePartial("f", []byte(tt.src))
			r.Comments()
			r.Unresolved()
			took := processorTime(t) - start
			t.Logf("%d bytes in %v", len(tt.src), took.Round(time.Millisecond))
			if tt.want == "" && len(problems) > 0 || !strings.Contains(problems.Error(), tt.want) {
				t.Errorf("%.300s, want %q in it", problems.Error(), tt.want)
			}
			if took > 8*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// processorTime is what the process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// Honest aliases and large files are read.
func TestWithinBounds(t *testing.T) {
	for name, src := range map[string]string{
		"aliases":   head + "    environment: &e {A: x}\n  api: {image: a, environment: *e}\n  db: {image: b, environment: {<<: *e, B: y}}\n",
		"thousand":  thousand(),
		"4000 keys": keys(4000),
	} {
		if _, err := recipe.Parse("f", []byte(src)); err != nil {
			t.Errorf("%s: %.500v", name, err)
		}
	}
}

// keys is a file with n environment variables.
func keys(n int) string {
	var b strings.Builder
	b.WriteString(head + "    environment:\n")
	for i := range n {
		fmt.Fprintf(&b, "      K%d: x\n", i)
	}
	return b.String()
}

// thousand is a file of 1000 services.
func thousand() string {
	var b strings.Builder
	b.WriteString("plugin: hive_services\nservices:\n")
	for i := range 1000 {
		b.WriteString(service(i))
	}
	return b.String()
}

// service is one like those of the guide.
func service(i int) string {
	return fmt.Sprintf(`  s%d:
    image: procube/powerdns:latest
    environment:
      MYSQL_PASSWORD: "{{db_password}}"
      MYSQL_HOST: pdnsdb
      MYSQL_DNSSEC: "yes"
    command:
    - "--api=yes"
    - "--api-key={{db_password}}"
    ports:
    - target_port: 53
      published_port: %d
      protocol: udp
      mode: ingress
    - "8081:80"
    volumes:
    - source: data%d
      target: /var/lib/mysql
      type: volume
      drbd:
        size: 500M
        fstype: xfs
    mode: replicated
    replicas: 2
    endpoint_mode: vip
`, i, 1000+i%60000, i)
}

func BenchmarkParseAndClassify1000Services(b *testing.B) {
	src := []byte(thousand())
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		r, err := recipe.Parse("f", src)
		if err != nil {
			b.Fatal(err)
		}
		for _, s := range r.Services {
			recipe.Classify(s, 3)
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	r, err := recipe.Parse("f", []byte(thousand()))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for _, s := range r.Services {
			recipe.Classify(s, 3)
		}
	}
}
