package recipe_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

func TestComments(t *testing.T) {
	r, problems := recipe.ParsePartial("f", []byte(`# top
plugin: hive_services # after a value
services: # 日本語
  web:
    image: "a # no" # b
    user: 'it''s # no' # c
    working_dir: /a#no
    environment:
      A: | # d
        # no
          # no

        # no
      # e
      B: >2-
          # no
        # no
      # f
      "C # no": !!str # g
        "# no
        \" # no" # h
      日本: &x "#no"	# i
      D: |-
      # j
    labels: [a: '# no', # k
      # l
    ]
    command:
    - |
     # no
    # m
    - x   # n
    -  "#" # o
#p
`))
	if len(problems) == 0 {
		t.Error("a list of maps as labels is no problem")
	}
	var got []string
	for _, c := range r.Comments() {
		if !strings.HasPrefix(string([]rune(r.Line(c.Position.Line))[c.Position.Column-1:]), "#") {
			t.Errorf("no # at %v", c.Position)
		}
		got = append(got, fmt.Sprint(c.Position.Line, " ", c.Text, " ", c.Alone))
	}
	want := []string{"1 top true", "2 after a value false", "3 日本語 false", "5 b false", "6 c false", "9 d false", "14 e true",
		"18 f true", "19 g false", "21 h false", "22 i false", "24 j true", "25 k false", "26 l true", "31 m true", "32 n false", "33 o false", "34 p true"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s\n%v", strings.Join(got, "\n"), strings.Join(want, "\n"), problems)
	}
}
