package recipe

// ResolvePartial is Resolve for a recipe of ParsePartial: what can be read of the
// file is read anew with the variables put in, whatever is wrong with the rest.
func (r *Recipe) ResolvePartial(vars map[string]string) Problems {
	if r.root == nil {
		return nil
	}
	resolved := &Recipe{File: r.File, lines: r.lines, texts: r.texts}
	c := &complaints{}
	decode(resolved, fill(r.root, vars, make(map[*node]*node)), c)
	*r = *resolved
	return c.sorted()
}
