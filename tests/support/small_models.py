"""Settings that make the models with text small."""

TEXT_MODELS = {
    "vadclip": {"visual_layers": 1},
    "dsanet": {
        "visual_layers": 1,
        "decoder_layers": 1,
        "decoder_heads": 2,
        "text_adapt_until": 1,
        "prototypes": 4,
    },
}
