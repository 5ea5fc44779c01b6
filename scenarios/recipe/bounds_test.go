package recipe_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// head begins a file with one service; its keys follow, four blanks deep.
const head = "plugin: hive_services\nservices:\n  web:\n    image: nginx\n"

// Hostile files are refused within the test's patience, and for what they are.
func TestBounds(t *testing.T) {
	bomb := func(levels int) string {
		var b strings.Builder
		b.WriteString(head + "    environment: &a0 {A: x}\n")
		for i := range levels {
			fmt.Fprintf(&b, "    x%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
		}
		return b.String()
	}
	var stairs strings.Builder
	for i := range 200 {
		fmt.Fprintf(&stairs, "%sa:\n", strings.Repeat(" ", i))
	}
	merge := "{<<: [" + strings.TrimSuffix(strings.Repeat("*e, ", 50), ", ") + "]}\n"
	merges := strings.Replace(keys(3000), "environment:", "environment: &e", 1) + "    labels: " + merge + "    hosts: " + merge
	tests := []struct{ name, src, want string }{
		{"size", head + strings.Repeat("# x\n", 300_000), "more than 1048576 are not read"},
		{"alias bomb", bomb(8), "once the aliases are followed"},
		{"merge bomb", merges, "values merged"},
		{"flow depth", head + "    dns: " + strings.Repeat("[", 100_000), "nested more than 64 deep"},
		{"flow map depth", head + "    dns: " + strings.Repeat("{a: ", 10_000), "nested more than 64 deep"},
		{"dashes", strings.Repeat("- ", 100_000), "nested more than 64 deep"},
		{"question marks", strings.Repeat("? ", 100_000), "nested more than 64 deep"},
		{"stairs", stairs.String(), "nested more than 64 deep"},
		{"keys of one map", keys(5000), "a map of more than 4096 keys"},
		{"one key again and again", head + strings.Repeat("    user: x\n", 50_000), "a map of more than 4096 keys"},
		{"tokens", head + "    dns: [" + strings.Repeat("a,", 400_000) + "]", "more than 300000 YAML tokens"},
		{"anchors", head + "    dns: " + strings.Repeat("&a ", 100_000), "not YAML"},
		{"tags", head + "    dns: " + strings.Repeat("!a ", 100_000), "not YAML"},
		{"explicit keys of one map", strings.Repeat("? a\n: b\n", 20_000), "a map of more than 4096 keys"},
		{"blank lines", head + "    user: |\n" + strings.Repeat("\n", 100_000), "more than 256 blank lines in a row"},
		{"dashes in a flow list", head + "    dns: [" + strings.Repeat("- ", 100_000), "a dash inside brackets"},
		{"documents", strings.Repeat("---\na\n", 100_000), "a second document"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			_, err := recipe.Parse("f", []byte(tt.src))
			t.Logf("%d bytes in %v", len(tt.src), time.Since(start).Round(time.Millisecond))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				text := fmt.Sprint(err)
				t.Errorf("%.300s, want %q in it", text, tt.want)
			}
		})
	}
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

// thousand is a file of 1000 services like those of the guide.
func thousand() string {
	var b strings.Builder
	b.WriteString("plugin: hive_services\nservices:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, `  s%d:
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
    - "8081"
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
`, i, 1000+i, i)
	}
	return b.String()
}

func BenchmarkParse1000Services(b *testing.B) {
	src := []byte(thousand())
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := recipe.Parse("f", src); err != nil {
			b.Fatal(err)
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
