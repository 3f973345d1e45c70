"""`varpulis top`: looks at a cluster (`looks`), what follows from two of them (`sample`), what is wrong
(`problems`), and how it is drawn (`view`)."""
