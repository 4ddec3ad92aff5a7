//! Characters that look like Latin letters, or like another letter of their own script. A table of our own.
//!
//! Both sides of every comparison are folded, so that a Cyrillic word is still found by its Cyrillic entry. Case is folded
//! first, and a letter is mapped by the shape of its lower case: otherwise capitals would be other words.

/// Each letter with what is read as that letter. What Unicode's compatibility decomposition gives is not repeated here.
pub const LOOKALIKES: &[(&str, &str)] = &[
    // Cyrillic, Greek, Armenian, Coptic, Cherokee, Lisu; then symbols.
    ("a", "аαⲁ⍺ᎪꓮꭺꞺ₳"),
    ("b", "вβᏴꓐᏏЬƀ₿฿"),
    ("c", "сⲥᏟꓚϲ¢₵ⅽ©"),
    ("d", "ԁᎠꓓᏧ∂"),
    ("e", "еεⲉᎬꓰҽє€℮∈∊"),
    ("f", "ꓝϝ"),
    ("g", "ԍᏀꓖցᏻɡ"),
    ("h", "нһհᎻꓧᏂ"),
    ("i", "іιⲓꓲᎥıӀ¡⍳ɩ"),
    ("j", "јϳᎫꓙյ"),
    ("k", "кκⲕᏦꓗ₭"),
    ("l", "ӏᏞꓡ₤£ⅼ∣ⵏ"),
    ("m", "мμᎷꓟⲙ"),
    ("n", "ηոռꓠ₦∩ⲛ"),
    ("o", "оοσօⲟꓳ∅०੦໐၀ዐ"),
    ("p", "рρⲣᏢꓑ⍴₱ҏ"),
    ("q", "ԛզգ"),
    ("r", "ᎡᏒꓣгᴦ"),
    ("s", "ѕꓢᏚᏕ§"),
    ("t", "тτⲧᎢꓔ₮†‡"),
    ("u", "υսꓴ∪ʋ"),
    ("v", "νѵꓦᏙ∨⋁"),
    ("w", "ωԝꓪᎳᏔ₩ա"),
    ("x", "хχⲭꓫ×✕✖"),
    ("y", "уγⲩꓬᎩүʏ¥"),
    ("z", "ζꓜᏃ"),
    // Within their own script.
    ("σ", "ς"),
    ("ي", "ىی"),
    ("ه", "ةہە"),
    ("ك", "کڪ"),
    ("כ", "ך"),
    ("מ", "ם"),
    ("נ", "ן"),
    ("פ", "ף"),
    ("צ", "ץ"),
    ("ss", "ßẞ"),
    // Punctuation that stands for ASCII's.
    ("'", "’‘ʼ＇`´ʹ"),
    ("-", "‐‑‒–—−﹣"),
    (".", "。．｡․·•∙・"),
    ("*", "∗⁎✱﹡٭"),
    ("/", "⁄∕"),
    ("|", "¦｜"),
];
