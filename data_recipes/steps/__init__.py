"""Steps that recipes share: caption, filter, segment, make pairs, reword, judge."""
