"""Rows of libraries that draw, and of widgets and images."""

from __future__ import annotations

from library import Library

_mpl = Library(
    "matplotlib", "import matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt"
)
_plotly = Library("plotly", "import plotly.graph_objects as go")
_altair = Library("altair", "import altair as alt")
_widgets = Library("ipywidgets", "import ipywidgets as widgets")
_pil = Library("PIL", "from PIL import Image, ImageDraw, ImageFont")

_MPL = (
    _mpl("Figure, Axes and artists in their own variables",
        "NAME, NAME_ax = plt.subplots()\nNAME_line, = NAME_ax.plot([1, 2], label='l')\n"
        "NAME_text = NAME_ax.set_title('t')",
        """
        assert NAME_line.axes is NAME_ax and NAME_ax.figure is NAME and NAME_line in NAME_ax.lines
        NAME_line.set_color("red")
        NAME_text.set_text("changed")
        NAME_ax.legend()
        import io
        out = io.BytesIO()
        NAME.savefig(out)
        assert NAME_ax.get_title() == "changed" and out.getvalue()[:4] == b"\\x89PNG"
        """),
    _mpl("current figure of pyplot",
        "plt.close('all')\nNAME = plt.figure('first')\nNAME_b = plt.figure()\nNAME_b.subplots()\n"
        "plt.figure('first')",
        "assert plt.gcf() is NAME and plt.figure(NAME_b.number) is NAME_b\n"
        "assert plt.fignum_exists('first') and plt.figure('first') is NAME\n"
        "plt.plot([1])\nassert len(NAME.axes) == 1\nplt.close(NAME_b)\n"
        "assert NAME_b.number not in plt.get_fignums()", alone=True),
    _mpl("figure that pyplot has closed", "NAME = plt.figure()\nNAME.add_subplot().plot([1])\n"
        "plt.close(NAME)",
        "assert NAME not in map(plt.figure, plt.get_fignums()) and len(NAME.axes[0].lines) == 1"),
    _mpl("figure without pyplot", "from matplotlib.figure import Figure\nNAME = Figure()\n"
        "NAME.subplots()",
        "import io\nNAME.savefig(io.BytesIO())\nassert len(NAME.axes) == 1"),
    _mpl("shared axes and gridspec",
        "NAME, NAME_axes = plt.subplots(2, 1, sharex=True, layout='constrained')\n"
        "NAME_axes[0].plot([1, 5])", "NAME_axes[0].set_xlim(0, 9)\n"
        "assert NAME_axes[1].get_xlim() == (0, 9)"),
    _mpl("image, colorbar and norm", "NAME, NAME_ax = plt.subplots()\n"
        "NAME_im = NAME_ax.imshow([[1, 2]], norm=matplotlib.colors.LogNorm())\n"
        "NAME_bar = NAME.colorbar(NAME_im)",
        "NAME_im.set_clim(1, 5)\nNAME.canvas.draw()\n"
        "assert abs(NAME_bar.vmax - 5) < 1e-9 and NAME_bar.mappable is NAME_im"),
    _mpl("scatter, bars, patches and containers", "NAME, NAME_ax = plt.subplots()\n"
        "NAME_s = NAME_ax.scatter([1], [2])\nNAME_b = NAME_ax.bar([1, 2], [3, 4])\n"
        "NAME_p = NAME_ax.add_patch(plt.Circle((0, 0), 1))",
        "NAME_b[0].set_height(9)\nNAME_p.set_radius(3)\nNAME.canvas.draw()\n"
        "assert NAME_ax.patches[0].get_height() == 9 and NAME_s in NAME_ax.collections"),
    _mpl("polar and 3d axes", "NAME = plt.figure()\n"
        "NAME_p = NAME.add_subplot(1, 2, 1, projection='polar')\n"
        "NAME_3 = NAME.add_subplot(1, 2, 2, projection='3d')\nNAME_3.plot([1], [2], [3])",
        "NAME_3.view_init(10, 20)\nNAME.canvas.draw()\n"
        "assert NAME_3.name == '3d' and NAME_p.name == 'polar'"),
    _mpl("twin axes and formatter of the notebook", "NAME, NAME_ax = plt.subplots()\n"
        "NAME_t = NAME_ax.twinx()\n"
        "NAME_ax.xaxis.set_major_formatter(lambda x, pos: f'<{x:g}>')",
        "NAME.canvas.draw()\nassert NAME_ax.get_xticklabels()[0].get_text().startswith('<')\n"
        "NAME_ax.set_xlim(3, 4)\nassert NAME_t.get_xlim() == (3, 4)"),
    _mpl("callbacks of the canvas", "NAME = plt.figure()\nNAME_seen = []\n"
        "def NAME_on(event):\n    NAME_seen.append(event)\n"
        "NAME_id = NAME.canvas.mpl_connect('draw_event', NAME_on)",
        "NAME.canvas.draw()\nassert len(NAME_seen) == 1"),
    _mpl("FuncAnimation", "import matplotlib.animation as an\nNAME_f, NAME_ax = plt.subplots()\n"
        "NAME_l, = NAME_ax.plot([0, 1])\n"
        "NAME = an.FuncAnimation(NAME_f, lambda i: NAME_l.set_ydata([i, i]),"
        " frames=3, cache_frame_data=False)\nNAME._draw_was_started = True",
        "import tempfile\nNAME.save(tempfile.mkdtemp() + '/a.gif', writer='pillow')\n"
        "assert list(NAME_l.get_ydata()) == [2, 2]", "PIL"),
    _mpl("colormap, cycler and RcParams", "NAME = matplotlib.colormaps['viridis'].resampled(4)\n"
        "NAME_c = matplotlib.cycler(color='rg')\n"
        "NAME_r = matplotlib.RcParams({'lines.linewidth': 3})\n"
        "NAME_m = matplotlib.colors.ListedColormap(['r', 'g'])",
        "assert NAME.N == 4 and NAME(0)[3] == 1 and len(NAME_c) == 2 and "
        "NAME_r['lines.linewidth'] == 3\n"
        "assert NAME_m(1)[1] > 0.4"),
    _mpl("Path, transforms and font", "from matplotlib.path import Path\n"
        "NAME = Path([[0, 0], [1, 0], [1, 1]])\nfrom matplotlib.transforms import Affine2D\n"
        "NAME_t = Affine2D().scale(2) + Affine2D().translate(1, 0)\n"
        "NAME_f = matplotlib.font_manager.FontProperties(size=7)",
        "assert NAME.contains_point((0.9, 0.1)) and NAME_t.transform((1, 1)).tolist() == [3, 2]\n"
        "assert NAME_f.get_size() == 7"),
    _mpl("widgets of a figure", "from matplotlib.widgets import Slider\n"
        "NAME_f, NAME_ax = plt.subplots()\n"
        "NAME = Slider(NAME_ax, 's', 0, 10)\nNAME_seen = []\n"
        "NAME.on_changed(lambda v: NAME_seen.append(v))",
        "NAME.set_val(4)\nassert NAME.val == 4 and NAME_seen == [4]"),
)  # fmt: skip

_PLOTLY = (
    _plotly("Figure and a trace of it", "NAME = go.Figure(go.Bar(y=[1, 3]))\nNAME_t = NAME.data[0]",
        "NAME_t.y = [5]\nassert list(NAME.data[0].y) == [5] and 'bar' in NAME.to_json()"),
    _plotly("Figure of plotly.express", "import plotly.express as px\n"
        "NAME = px.scatter({'x': [1, 2], 'y': [3, 4]}, 'x', 'y')",
        "NAME.update_traces(marker_size=9)\nassert NAME.data[0].marker.size == 9", "pandas"),
    _plotly("Layout and template", "NAME = go.Layout(title='t')\nimport plotly.io as pio\n"
        "NAME_t = pio.templates['plotly_dark']", "assert NAME.title.text == 't' and NAME_t.layout"),
)  # fmt: skip

_ALTAIR = (
    _altair("Chart", "import pandas as pd\n"
        "NAME = alt.Chart(pd.DataFrame({'x': [1], 'y': [2]})).mark_bar().encode(x='x', "
        "y=alt.Y('y'))",
        "assert NAME.to_dict()['mark']['type'] == 'bar' and '\"x\"' in "
        "NAME.properties(title='t').to_json()",
        "pandas"),
    _altair("layers, selection and condition", "NAME_s = alt.selection_point(name='pick')\n"
        "NAME_c = alt.Chart('data.csv').mark_line().encode(x='x:Q', color=alt.condition(NAME_s, "
        "'k:N',"
        " alt.value('grey'))).add_params(NAME_s)\nNAME = (NAME_c + NAME_c.mark_point()) | NAME_c",
        "assert len(NAME.to_dict()['hconcat']) == 2"),
)  # fmt: skip

_WIDGETS = (
    _widgets("slider with an observer", "NAME_seen = []\nNAME = widgets.IntSlider(3, max=9)\n"
        "NAME.observe(lambda change: NAME_seen.append(change.new), 'value')",
        "NAME.value = 5\nassert NAME_seen == [5] and NAME.max == 9 and NAME.comm is not None\n"
        "assert type(NAME)._model_name and NAME.model_id in widgets.Widget._active_widgets"
        " if hasattr(widgets.Widget, '_active_widgets') else NAME.model_id"),
    _widgets("box, and a child of it", "NAME_a = widgets.Text('x')\nNAME = widgets.VBox([NAME_a],"
        " layout={'width': '50px'})", "assert NAME.children[0] is NAME_a and NAME.layout.width "
        "== '50px'\n"
        "NAME.children = (*NAME.children, widgets.Label('y'))"),
    _widgets("button with a handler", "NAME_n = []\nNAME = widgets.Button(description='go')\n"
        "NAME.on_click(lambda b: NAME_n.append(b))", "NAME.click()\nassert NAME_n == [NAME]"),
    _widgets("linked widgets", "NAME, NAME_b = widgets.IntText(1), widgets.IntText(2)\n"
        "NAME_l = widgets.link((NAME, 'value'), (NAME_b, 'value'))",
        "NAME.value = 7\nassert NAME_b.value == 7\nNAME_l.unlink()\nNAME.value = 8\n"
        "assert NAME_b.value == 7"),
    _widgets("interactive", "NAME_n = []\n"
        "NAME = widgets.interactive(lambda x: NAME_n.append(x), x=(0, 9))",
        "NAME.children[0].value = 2\nassert NAME_n[-1] == 2"),
    _widgets("Output with what it shows", "NAME = widgets.Output()\nNAME.append_stdout('hello')",
        "assert NAME.outputs[0]['text'] == 'hello'\nwith NAME:\n    pass"),
)  # fmt: skip

_PIL = (
    _pil("Image", "NAME = Image.new('RGB', (4, 3), 'red')\nNAME.info['k'] = 1",
        "NAME.putpixel((0, 0), (0, 0, 255))\n"
        "assert NAME.getpixel((0, 0)) == (0, 0, 255) and NAME.size == (4, 3)"),
    _pil("Image with a palette", "NAME = Image.new('P', (2, 2))\n"
        "NAME.putpalette([0, 0, 0, 255, 0, 0])\n"
        "NAME.putpixel((1, 1), 1)", "assert NAME.convert('RGB').getpixel((1, 1)) == (255, 0, 0)"),
    _pil("Image opened from a file, not read yet", "import tempfile\n"
        "NAME_p = tempfile.mkdtemp() + '/a.png'\n"
        "Image.new('L', (5, 5), 7).save(NAME_p)\nNAME = Image.open(NAME_p)",
        "assert NAME.getpixel((1, 1)) == 7 and NAME.format == 'PNG' and NAME.filename == NAME_p"),
    _pil("frames of a GIF", "import tempfile\nNAME_p = tempfile.mkdtemp() + '/a.gif'\n"
        "Image.new('L', (5, 5), 7).save(NAME_p, save_all=True, append_images=[Image.new('L', "
        "(5, 5), 200)])\n"
        "NAME = Image.open(NAME_p)\nNAME.seek(1)",
        "assert NAME.tell() == 1 and NAME.n_frames == 2 and NAME.convert('L').getpixel((0, 0)) "
        "> 150\n"
        "NAME.seek(0)\nassert NAME.convert('L').getpixel((0, 0)) < 50"),
    _pil("ImageDraw on an image", "NAME_i = Image.new('L', (9, 9))\nNAME = ImageDraw.Draw(NAME_i)",
        "NAME.rectangle((0, 0, 4, 4), fill=255)\nassert NAME_i.getpixel((2, 2)) == 255"),
    _pil("fonts", "NAME = ImageFont.load_default()\nNAME_t = ImageFont.load_default(20)",
        "assert NAME.getlength('abc') > 0 and NAME_t.getlength('abc') > NAME_t.getlength('a')\n"
        "ImageDraw.Draw(Image.new('L', (50, 50))).text((0, 0), 'x', 255, font=NAME_t)"),
    _pil("ImagePalette, filters and ImageSequence", "from PIL import ImageFilter, ImageSequence\n"
        "NAME = ImageFilter.GaussianBlur(2)\n"
        "NAME_s = ImageSequence.Iterator(Image.new('L', (1, 1)))",
        "assert Image.new('L', (5, 5), 9).filter(NAME).getpixel((2, 2)) == 9"),
)  # fmt: skip

ROWS = (*_MPL, *_PLOTLY, *_ALTAIR, *_WIDGETS, *_PIL)
